package main

import (
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

func TestExitCodeOfEachReason(t *testing.T) {
	for _, c := range []struct {
		reason lease.Reason
		final  bool
		want   int
	}{
		{lease.NoSeats, false, 75},
		{lease.SessionsExceeded, false, 75},
		{lease.Overloaded, false, 75},
		{"max_reached", false, 75},
		{lease.NoFeature, true, 1},
		{lease.BadVersion, true, 1},
		{lease.LicenseExpired, true, 1},
		{lease.TooManyRequested, true, 1},
		{lease.SessionUnknown, false, 1},
		{lease.StaleRequest, false, 1},
		{lease.Fenced, true, 77},
		{lease.Forbidden, true, 77},
		{client.Unauthenticated, true, 77},
		{"excluded", true, 77},
		{lease.Invalid, true, 2},
		{client.Unreachable, false, 69},
		{client.UnknownOutcome, false, 69},
		{client.NotLeader, false, 69},
	} {
		a := &app{stderr: &strings.Builder{}}
		err := apiError(&client.Error{Reason: c.reason, Message: "text", Final: c.final})
		if got := a.report(err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.reason, got, c.want)
		}
		if line := a.stderr.(*strings.Builder).String(); strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "seatkeeper: "+string(c.reason)+": text") {
			t.Errorf("%s: stderr %q, want one line with reason and message", c.reason, line)
		}
	}
}

func TestExitCodesWithoutACluster(t *testing.T) {
	nobody := map[string]string{"SEATKEEPER_ADDR": "127.0.0.1:1"}
	typo := write(t, "typo.yaml", "nmae: x\n")
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want int
	}{
		{"help", nil, []string{"--help"}, 0},
		{"version", nil, []string{"version"}, 0},
		{"unknown command", nil, []string{"bogus"}, 2},
		{"unknown flag", nil, []string{"leases", "--bogus"}, 2},
		{"no argument", nil, []string{"verify"}, 2},
		{"bad format", nil, []string{"leases", "-o", "xml"}, 2},
		{"bad address", nil, []string{"leases", "--addr", "http://"}, 2},
		{"bad config", nil, []string{"--config", typo, "leases"}, 78},
		{"bad server config", nil, []string{"server", "--config", typo}, 78},
		{"no server config", nil, []string{"server"}, 2},
		{"completion with a bad config", map[string]string{"SEATKEEPER_CONFIG": typo}, []string{"completion", "bash"}, 0},
		{"status of nobody", nobody, []string{"status"}, 69},
		{"command not found", nobody, []string{"run", "cad", "--", "no-such-command-here"}, 127},
		{"command not executable", nobody, []string{"run", "cad", "--", typo}, 126},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := run(t, c.env, c.args...)
			if code != c.want {
				t.Errorf("exit code %d, want %d; stderr: %s", code, c.want, stderr)
			}
			if (code == 0) != (stderr == "") {
				t.Errorf("exit code %d with stderr %q", code, stderr)
			}
		})
	}
}
