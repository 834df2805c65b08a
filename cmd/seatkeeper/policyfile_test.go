package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

const everyRule = `ignore_case: true
groups:
  - {name: designers, members: [ann, "con-*"], priority: 5}
host_groups:
  - {name: lab, members: ["ws-*", 10.1.0.0/16]}
include:
  - {feature: solver, group: designers}
exclude:
  - {feature: "cad:VERSION=2026.0", host_group: lab}
  - {internet: "10.9.*.*"}
reserve:
  - {feature: cad, project: apollo, seats: 2}
max:
  - {feature: cad, display: ":0", seats: 0}
soft_limit: [{feature: cad, seats: 8}]
max_overdraft: [{feature: cad, seats: 1}]
profile:
  - {group: designers, profile: lan}
  - {host: ws-1, lifespan: 1h30m, grace: 0s}
linger: [{feature: cad, time: 10m}]
min_checkout: [{time: 1m30s}]
idle_timeout: [{user: ann, time: 2h}]
min_kill: [{time: 0s}]
include_borrow: [{user: ann}]
exclude_borrow: [{feature: cad, user: bob}]
max_borrow_hours: [{feature: cad, hours: 72}]
borrow_low_water: [{feature: cad, seats: 3}]
`

func TestAPolicyFileIsReadAndWrittenWhole(t *testing.T) {
	src, err := readPolicyFile("p.yaml", []byte(everyRule))
	if err != nil {
		t.Fatal(err)
	}
	if len(src.policy.Faults()) > 0 {
		t.Fatalf("faults: %v", src.policy.Faults())
	}
	seen := map[lease.RuleKind]bool{}
	for _, r := range src.policy.Rules {
		seen[r.Kind] = true
	}
	if len(seen) != len(kinds()) {
		t.Errorf("%d kinds of rules, want %d: each needs a section", len(seen), len(kinds()))
	}
	text, err := writePolicyFile(src.policy)
	if err != nil {
		t.Fatal(err)
	}
	again, err := readPolicyFile("again.yaml", text)
	if err != nil || !reflect.DeepEqual(again.policy, src.policy) {
		t.Errorf("read again: %v\n%s\n%+v\n%+v", err, text, again, src.policy)
	}
	file, err := os.ReadFile("../../lease/license/testdata/options.opt")
	if err != nil {
		t.Fatal(err)
	}
	o, err := license.ParseOptions(file)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = writePolicyFile(o.Policy); err != nil {
		t.Fatal(err)
	}
	if again, err = readPolicyFile("options.yaml", text); err != nil || len(again.policy.Rules) != len(o.Policy.Rules) {
		t.Errorf("an options file as a policy file: %v", err)
	}
}

func TestAWrongPolicyFileIsRefusedWithItsPlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"max:\n  - {feature: cad, user: ann, seets: 1}\n", `p.yaml:2:31: unknown key "seets": did you mean "seats"?`},
		{"maxx: []\n", `p.yaml:1:1: unknown key "maxx": did you mean "max"?`},
		{"max:\n  - {feature: cad, user: ann, host: h, seats: 1}\n", "p.yaml:2:31: max: name one of user"},
		{"max:\n  - {feature: cad, user: ann}\n", "p.yaml:2:6: max: seats is missing"},
		{"max:\n  - {feature: cad, user: ann, seats: many}\n", `p.yaml:2:38: "many" is not what stands here: want a whole number`},
		{"linger:\n  - {feature: cad}\n", "p.yaml:2:6: linger: time is missing"},
		{"linger:\n  - {feature: cad, time: 3 days}\n", `p.yaml:2:20: linger: "3 days" is no time`},
		{"exclude:\n  - {user: ann, seats: 1}\n", "p.yaml:2:17: exclude takes no such number"},
		{"profile:\n  - {profile: fast}\n", `p.yaml:2:6: profile "fast": want default, lan, wan or ci`},
		{"a: 1\n---\nb: 2\n", "unknown key"},
		{"max: [\n", "p.yaml:"},
	} {
		_, err := readPolicyFile("p.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}
