//go:build linux

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// All admins' tokens are lost. Who has the leader's machine gets another one, once; nobody
// else does.
func TestLostAdminTokenIsReplacedByWhoHasTheMachine(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, seats("cad", 3, longProfile))
	code, lost, stderr := s.cli(t, "acl", "bootstrap")
	if code != 0 {
		t.Fatal(stderr)
	}
	as := func(token string, args ...string) (int, string, string) {
		t.Helper()
		return run(t, map[string]string{"SEATKEEPER_ADDR": s.address(), "SEATKEEPER_TOKEN": strings.TrimSpace(token)}, args...)
	}
	leader := func() *devNode { // the story's own connection has no token
		t.Helper()
		code, out, stderr := as(lost, "status", "-o", "json")
		var st pb.StatusResponse
		if code == 0 {
			mustJSON(t, out, &st)
		}
		n := s.node(st.Leader)
		if n == nil {
			t.Fatal("nobody leads: ", stderr)
		}
		return n
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if code, _, stderr := s.cli(t, append([]string{"acl", "bootstrap"}, args...)...); code != exitNotAllowed && code != exitError1 && code != exitUsage ||
			!strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("acl bootstrap %s: %d %q, want one line with %q", strings.Join(args, " "), code, stderr, want)
		}
	}
	refused("acl bootstrap --reset")
	refused("--data-dir", "--reset")
	refused("is not the data directory of a node", "--reset", "--data-dir", t.TempDir())

	// The machine of another node is not enough, and nothing is left there.
	leads := leader()
	for _, n := range s.nodes {
		if n == leads {
			continue
		}
		refused("run seatkeeper acl bootstrap --reset", "--reset", "--data-dir", n.Dir)
		if _, err := os.Stat(filepath.Join(n.Dir, resetFile)); err == nil {
			t.Errorf("%s keeps the proof", n.Name)
		}
	}

	// A stranger tries with a token of its own while the proof for another lies there; an
	// old proof opens nothing either.
	_, mine, mySum := mintToken()
	text, theirs, theirSum := mintToken()
	path, err := writeReset(leads.Dir, theirs, theirSum)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id string, sum []byte) error {
		_, err := s.access().AclBootstrap(t.Context(), &pb.AclBootstrapRequest{TokenId: id, TokenDigest: sum, ResetAdmin: true})
		return err
	}
	if err := ask(mine, mySum); err == nil || !strings.Contains(err.Error(), "another token") {
		t.Errorf("a stranger's reset: %v", err)
	}
	if err := ask("", nil); err == nil {
		t.Error("a reset without a token of the caller's is made")
	}
	old := time.Now().Add(-2 * resetLife)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := ask(theirs, theirSum); err == nil || !strings.Contains(err.Error(), "older than") {
		t.Errorf("an old proof: %v", err)
	}
	if code, _, _ := as(text, "token", "list"); code != exitNotAllowed {
		t.Errorf("a token that was not made is accepted: %d", code)
	}

	// The real one, on the machine of whoever leads by now.
	leads = leader()
	path = filepath.Join(leads.Dir, resetFile)
	code, out, stderr := s.cli(t, "acl", "bootstrap", "--reset", "--data-dir", leads.Dir)
	if code != 0 {
		t.Fatal(code, stderr)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the proof is not used up")
	}
	if code, list, stderr := as(out, "token", "list"); code != 0 || strings.Count(list, "\n") != 3 || !strings.Contains(list, "admin token by reset") {
		t.Errorf("the new token: %d %s%s", code, list, stderr)
	}
	if code, _, stderr := as(lost, "token", "list"); code != 0 {
		t.Errorf("the old tokens do not go on: %s", stderr)
	}
	var log []byte
	for _, n := range s.nodes {
		one, err := os.ReadFile(n.logPath())
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, one...)
	}
	for _, want := range []string{"an admin token is made by reset", "asked for by reset and refused"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("no log says %q", want)
		}
	}
	if strings.Contains(string(log), strings.TrimSpace(out)) {
		t.Error("the token is in a log")
	}
	// Over HTTP it is one path more that needs no token: it must not give one away.
	refusal, err := post(t.Context(), http.DefaultClient, leads.API, "/v1/acl/bootstrap", `{"reset_admin":true}`, &pb.AclBootstrapResponse{})
	if err != nil || refusal == nil || refusal.Status != http.StatusForbidden {
		t.Errorf("a reset by HTTP: %+v %v", refusal, err)
	}
}

func (s *story) access() pb.AccessClient { return s.conn.client.Access() }
