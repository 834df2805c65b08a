package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Whatever people and scripts hand to the command line is read, or refused in words that
// fit a line.

// FuzzPolicyFile: a policy file is refused, or is a policy that written and read again is
// the same.
func FuzzPolicyFile(f *testing.F) {
	for _, text := range []string{"", "max: [{feature: cad, user: ann, seats: 2}]", "groups: [{name: g, members: [a, b]}]\nreserve: [{feature: cad, group: g, seats: 1}]",
		"profile: [{profile: lan}, {feature: x, lifespan: 1m, grace: 90s}]", "linger: [{time: 1h30m}]", "a: &a [*a]", "max: {}", "- x", "\x00", "max_borrow_hours: [{hours: 2}]", "---\n---\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readPolicyFile("f.yaml", text)
		if err != nil {
			var e *configError
			if !errors.As(err, &e) || strings.Contains(err.Error(), "\x00") {
				t.Errorf("%T %q", err, err)
			}
			return
		}
		if len(s.ofRule) != len(s.policy.Rules) || len(s.ofGroup) != len(s.policy.Groups) {
			t.Fatalf("%d places for %d rules, %d for %d groups", len(s.ofRule), len(s.policy.Rules), len(s.ofGroup), len(s.policy.Groups))
		}
		if s.policy.Check() != nil {
			return // the rules say why not
		}
		again, err := writePolicyFile(s.policy)
		if err != nil {
			t.Fatal(err)
		}
		back, err := readPolicyFile("again.yaml", again)
		if err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		// The file has one list for each kind of rule; rules of one kind keep their order.
		if !reflect.DeepEqual(sortedKinds(back.policy), sortedKinds(s.policy)) {
			t.Errorf("%+v became\n%+v\nby\n%s", s.policy, back.policy, again)
		}
	})
}

// sortedKinds has the rules by kind and groups before host groups, and no difference
// between an empty list and none.
func sortedKinds(p lease.Policy) lease.Policy {
	out := lease.Policy{Tenant: p.Tenant, FoldCase: p.FoldCase}
	for _, hosts := range []bool{false, true} {
		for _, g := range p.Groups {
			if g.Hosts == hosts {
				g.Members = append([]string{}, g.Members...)
				out.Groups = append(out.Groups, g)
			}
		}
	}
	for _, k := range kinds() {
		for _, r := range p.Rules {
			if r.Kind == k {
				out.Rules = append(out.Rules, r)
			}
		}
	}
	return out
}

// FuzzLmArguments: arguments of FlexNet's tools and server lists, in whatever order.
func FuzzLmArguments(f *testing.F) {
	for _, args := range []string{"-a", "-A -asec -c 7800@a,7801@b -f cad -S acme -t 5", "-i", "-s node-1 -f", "-t x", "-c", "cad ann ws1 :0", "-h cad node-1 7800 12", "-c 1@a:2@b cad ann ws1 -", "SERVER a any 7800\nSERVER b any\n"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, " ")
		if v, err := parseLmstat(args); err == nil {
			_ = v.view()
		} else if strings.ContainsAny(err.Error(), "\x00\x1b") {
			t.Errorf("%q", err)
		}
		if h, _, err := parseLmremove(args); err == nil && h.feature == "" && h.user == "" && h.host == "" && !strings.Contains(text, "  ") && !strings.HasPrefix(text, " ") {
			t.Errorf("%q names nobody", args)
		}
		list, rest := lmList(args)
		if len(rest) > len(args) {
			t.Errorf("%q: %q", args, rest)
		}
		for _, l := range []string{serverList(list), serverLines(text)} {
			if strings.Contains(l, ",,") || strings.HasPrefix(l, ",") {
				t.Errorf("%q became %q", text, l)
			}
		}
	})
}

// FuzzItemWords: FEATURE[:VERSION] words, with commas between them.
func FuzzItemWords(f *testing.F) {
	for _, s := range []string{"cad", "cad:2026.0,mesh", ":", "a:,b", ",", "cad:1:2"} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, words string, count int) {
		items, err := parseItems(strings.Split(words, " "), count)
		if err != nil {
			return
		}
		if len(items) == 0 || len(items) > lease.MaxItems {
			t.Errorf("%q: %d items", words, len(items))
		}
		for _, it := range items {
			if it.Feature == "" || len(it.Feature) > lease.MaxNameLen || it.Count < 1 {
				t.Errorf("%q: %v", words, it)
			}
		}
	})
}
