//go:build linux

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The dashboard of a cluster with tokens: who has a wrong one is told what to do.
func TestDashboardDoorSaysWhatToDo(t *testing.T) {
	inFull(t)
	t.Parallel()
	p := openBrowser(t)
	s := startStory(t, seats("cad", 3, longProfile))
	defer p.leave()
	at := s.follower(t)
	_, admin, _ := s.cli(t, "acl", "bootstrap")
	create := func(args ...string) string {
		t.Helper()
		code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": s.address(), "SEATKEEPER_TOKEN": strings.TrimSpace(admin)}, append([]string{"token", "create"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.TrimSpace(out)
	}
	short, viewer := create("--role", "viewer", "--expires-in", "1s"), create("--role", "viewer")
	eventually(t, "the token to expire", func() error {
		if code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": s.address(), "SEATKEEPER_TOKEN": short}, "leases"); code == 0 || !strings.Contains(stderr, "expired") {
			return errors.New(stderr)
		}
		return nil
	})
	p.look(1360, 900, false)
	p.do(chromedp.Navigate("http://"+at.API+"/ui/"), chromedp.WaitVisible(chromedp.ID("door")))
	p.screenshot("door-light")
	enter := func(text string) {
		t.Helper()
		p.do(typeInto("token", text), chromedp.Click(chromedp.CSS("#door button.main")))
	}
	for _, c := range []struct{ text, want, do string }{
		{"letmein", "this is no access token", "Paste the whole token"},
		{short, "has expired", "ask an admin for another one"},
	} {
		enter(c.text)
		p.see("#door .error", c.want)
		p.see("#door .error", c.do)
		if shown := p.shown(); strings.Contains(shown, c.text) {
			t.Errorf("the page shows what was typed: %s", shown)
		}
	}
	p.look(1360, 900, true)
	p.screenshot("door-refused-dark")
	p.look(1360, 900, false)
	enter(viewer)
	p.see("#link", "Live")
}
