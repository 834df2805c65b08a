//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/rpc/client"
)

const storyPolicy = `groups:
  - {name: designers, members: [ann, bob], priority: 5}
exclude:
  - {feature: cad, user: mallory}
reserve:
  - {feature: cad, group: designers, seats: 2}
max:
  - {feature: cad, user: zoe, seats: 1}
`

// A policy is applied, the leader is killed, and the policy is there and decides: what was
// reserved is kept, what was capped is capped, and the next version goes on from it.
func TestPolicySurvivesALeaderKill(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, unshared("cad", 3, storyProfile))
	file := write(t, "policy.yaml", storyPolicy)
	if code, stdout, stderr := s.cli(t, "policy", "apply", file); code != exitOK || !strings.Contains(stdout, "(version 1): 1 group(s), 3 rule(s)") {
		t.Fatalf("apply: %d, %s%s", code, stdout, stderr)
	}
	_, ann := s.sdk(t, "ann", nil, client.SessionConfig{})
	if _, err := ann.Checkout(t.Context(), client.Item{Feature: "cad", Count: 1}); err != nil {
		t.Fatal(err)
	}
	_, zoe := s.sdk(t, "zoe", nil, client.SessionConfig{})
	if _, err := zoe.Checkout(t.Context(), client.Item{Feature: "cad", Count: 1}); err != nil {
		t.Fatal(err)
	}
	s.refuses(t)
	s.leader(t).kill()
	eventually(t, "another node leads and reads", func() error {
		_, _, err := s.policy(t)
		return err
	})
	version, text, _ := s.policy(t)
	if version != "# version 1" || !strings.Contains(text, "group: designers\n    seats: 2") {
		t.Errorf("the policy after the kill: %s\n%s", version, text)
	}
	s.refuses(t)
	if code, stdout, _ := s.cli(t, "status"); code != exitOK || !strings.Contains(stdout, "reserved: 1 of 2 seats of cad 1.0 for group designers") {
		t.Errorf("status: %d, %s", code, stdout)
	}
	_, bob := s.sdk(t, "bob", nil, client.SessionConfig{})
	if _, err := bob.Checkout(t.Context(), client.Item{Feature: "cad", Count: 1}); err != nil {
		t.Errorf("bob does not get what is reserved for him: %v", err)
	}
	if code, _, stderr := s.cli(t, "policy", "apply", "--expect-version", "0", file); code == exitOK || !strings.Contains(stderr, "has version 1") {
		t.Errorf("apply against another version: %d, %s", code, stderr)
	}
	other := write(t, "other.yaml", strings.Replace(storyPolicy, "zoe, seats: 1", "zoe, seats: 2", 1))
	if code, stdout, stderr := s.cli(t, "policy", "apply", "--expect-version", "1", other); code != exitOK || !strings.Contains(stdout, "(version 2)") {
		t.Errorf("the next version: %d, %s%s", code, stdout, stderr)
	}
}

// refuses looks whether the story's policy decides.
func (s *story) refuses(t *testing.T) {
	t.Helper()
	for user, want := range map[string]string{"mallory": "excluded", "zoe": "max_reached", "yan": "reserved_for_others"} {
		if code, _, stderr := s.cli(t, "checkout", "cad", "--user", user); code == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("checkout by %s: %d, %s; want %s", user, code, stderr, want)
		}
	}
}

// policy gives the first line of policy show, and the rest.
func (s *story) policy(t *testing.T) (version, text string, err error) {
	t.Helper()
	code, stdout, stderr := s.cli(t, "policy", "show")
	if code != exitOK {
		return "", "", &exitError{code: code, err: &refused{"unreachable", stderr}}
	}
	version, text, _ = strings.Cut(stdout, "\n")
	return version, text, nil
}
