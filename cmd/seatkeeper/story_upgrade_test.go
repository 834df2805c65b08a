//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// upgradeClients is enough that some are always about to take or give back.
const upgradeClients = 15

// nextBuild builds what comes after this version: it knows one command more.
func nextBuild(t *testing.T) string {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the next version is built from source: no go command here")
	}
	out := filepath.Join(t.TempDir(), "seatkeeper-next")
	build := exec.CommandContext(t.Context(), tool, "build", "-tags", "nextversion", "-ldflags", "-X main.version=next", "-o", out, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build -tags nextversion: %v\n%s", err, text)
	}
	return out
}

// note asks a node for the command that only the next version knows.
func note(t *testing.T, n *devNode) (status int, r refusalBody) {
	t.Helper()
	resp, err := http.Post("http://"+n.API+"/v1/note?text=hello", "", nil) // follows redirects
	if err != nil {
		return 0, r
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, r
	}
	if resp.StatusCode != http.StatusOK {
		_ = json.Unmarshal(body, &r)
	}
	return resp.StatusCode, r
}

// Three nodes are upgraded one after the other while clients work: none of them sees an
// error but that no seat is free, no seat is lost or issued twice. The new command is refused
// as long as one node does not know it, with the name of that node, and served afterwards.
// Then there is no way back.
func TestRollingUpgradeUnderClients(t *testing.T) {
	inFull(t)
	t.Parallel()
	next := nextBuild(t)
	s := startStory(t, unshared("crowd", crowdSeats, crowdProfile))
	c := &crowd{t: t, s: s, stop: make(chan struct{}), holder: map[int]string{}, held: map[string]*client.Lease{}}
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() { close(c.stop); wg.Wait() })
	defer end() // also when the test has failed
	for i := range upgradeClients {
		user := fmt.Sprintf("user%d", i)
		_, session := s.sdk(t, user, nil, client.SessionConfig{})
		wg.Go(func() {
			switch i % 3 {
			case 0:
				c.hold(user, session)
			case 1:
				c.renew(user, session)
			default:
				c.comeAndGo(user, session, i)
			}
		})
	}
	c.waitActs(t, 100)

	leader, left := s.leader(t), append([]*devNode(nil), s.nodes...)
	order := []*devNode{}
	for _, n := range s.nodes {
		if n != leader {
			order = append(order, n)
		}
	}
	for _, n := range append(order, leader) {
		s.upgrade(t, n, next)
		left = without(left, n)
		c.waitActs(t, 50)
		if len(left) > 0 {
			refusedUntilUpgraded(t, n, left)
			if st := s.status(t); st.LogVersion != 1 {
				t.Errorf("the cluster is at log version %d while %d nodes do not understand 2", st.LogVersion, len(left))
			}
		}
	}
	eventually(t, "the log version to rise", func() error {
		if st, err := s.statusNow(t.Context(), s.conn); err != nil || st.LogVersion != 2 {
			return fmt.Errorf("%d, %v", st.GetLogVersion(), err)
		}
		return nil
	})
	eventually(t, "the new command", func() error {
		if code, r := note(t, order[0]); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, r.Message)
		}
		return nil
	})
	c.waitActs(t, 50)
	end()
	s.allAgree(t)
	c.checkCharges(t)
	s.showsUpgraded(t)
	s.refusesDowngrade(t, order[0], next)
	c.checkCharges(t)
	t.Logf("%d acts, %d refusals for want of a seat", c.acts.Load(), c.denied)
}

// upgrade puts another build in the place of a node's, as the runbook says: stop, start,
// wait until it has what the leader has.
func (s *story) upgrade(t *testing.T, n *devNode, binary string) {
	t.Helper()
	n.signal(terminateSignal)
	<-n.exited
	if code := n.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("%s stops with %d", n.Name, code)
	}
	n.binary = binary
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, n.Name+" is back", func() error {
		st, err := s.statusNow(t.Context(), s.conn)
		if err != nil {
			return err
		}
		var self *pb.NodeStatus
		for _, x := range st.Nodes {
			if s.node(x.Id) == n {
				self = x
			}
		}
		if self.GetLogVersion() != 2 || self.GetVersion() != "next" || self.GetAppliedIndex()+100 < st.RaftIndex {
			return fmt.Errorf("%v, the leader is at %d", self, st.RaftIndex)
		}
		return nil
	})
}

// refusedUntilUpgraded asks for the new command: the answer names who is to be upgraded, and
// only those.
func refusedUntilUpgraded(t *testing.T, n *devNode, old []*devNode) {
	t.Helper()
	eventually(t, "a refusal that names who is to be upgraded", func() error {
		code, r := note(t, n)
		if code == http.StatusOK {
			t.Fatalf("a command that %s does not know was served", old[0].Name)
		}
		if code != http.StatusConflict || r.Reason != "not_upgraded" || !r.Final {
			return fmt.Errorf("%d %+v", code, r)
		}
		if named := strings.Count(r.Message, "node node-"); named != len(old) {
			return fmt.Errorf("%d of %d named: %s", named, len(old), r.Message)
		}
		for _, o := range old {
			if !strings.Contains(r.Message, "node "+o.Name+"-") {
				return fmt.Errorf("%s is not named: %s", o.Name, r.Message)
			}
		}
		return nil
	})
}

func without(list []*devNode, n *devNode) (out []*devNode) {
	for _, x := range list {
		if x != n {
			out = append(out, x)
		}
	}
	return out
}

// waitActs waits until clients have done so much more.
func (c *crowd) waitActs(t *testing.T, more int64) {
	t.Helper()
	goal := c.acts.Load() + more
	eventually(t, fmt.Sprintf("%d more acts", more), func() error {
		if n := c.acts.Load(); n < goal {
			return fmt.Errorf("%d to go", goal-n)
		}
		return nil
	})
}

// showsUpgraded looks at the commands and the metric that tell of versions.
func (s *story) showsUpgraded(t *testing.T) {
	t.Helper()
	code, stdout, stderr := s.cli(t, "operator", "upgrade", "-o", "json")
	var state upgradeState
	if err := json.Unmarshal([]byte(stdout), &state); code != exitOK || err != nil || !state.Done || state.LogVersion != 2 || len(state.Nodes) != 3 {
		t.Errorf("operator upgrade: %d, %v, %s%s", code, err, stdout, stderr)
	}
	if code, stdout, _ := s.cli(t, "members"); code != exitOK || strings.Count(stdout, "next") != 3 {
		t.Errorf("members: %d\n%s", code, stdout)
	}
	if code, stdout, _ := s.cli(t, "status"); code != exitOK || !strings.Contains(stdout, "log version 2") {
		t.Errorf("status: %d\n%s", code, stdout)
	}
	for _, n := range s.nodes {
		eventually(t, "the metric of "+n.Name, func() error {
			resp, err := http.Get("http://" + n.API + "/metrics")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err == nil && (!strings.Contains(string(text), "\nseatkeeper_cluster_log_version 2\n") || !strings.Contains(string(text), "\nseatkeeper_cluster_log_version_understood 2\n")) {
				err = fmt.Errorf("no log version of 2 in it")
			}
			return err
		})
	}
}

// refusesDowngrade starts a node with the old build again, and reads a backup with it.
func (s *story) refusesDowngrade(t *testing.T, n *devNode, next string) {
	t.Helper()
	old := programUnderTest(t)
	eventually(t, "the mark in the data directory", func() error {
		_, err := os.Stat(filepath.Join(n.Dir, "log-version"))
		return err
	})
	n.signal(terminateSignal)
	<-n.exited
	n.binary = old
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	<-n.exited
	if code, line := n.cmd.ProcessState.ExitCode(), n.lastLog(); code != exitError1 || !strings.Contains(line, n.Dir+" is of log version 2 and this build understands 1") {
		t.Errorf("the old build ends with %d: %s", code, line)
	}
	file := filepath.Join(t.TempDir(), "next.backup")
	if out, err := exec.CommandContext(t.Context(), next, "--addr", s.address(), "snapshot", "save", file).CombinedOutput(); err != nil {
		t.Fatalf("snapshot save: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"inspect", file}, {"restore", "--yes", file}} {
		code, _, stderr := s.cli(t, append([]string{"snapshot"}, args...)...)
		if code != exitError1 || !strings.Contains(stderr, "the backup needs log version 2 and this build understands 1") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("snapshot %s with the old build: %d, %s", args[0], code, stderr)
		}
	}
	code, _, stderr := s.cli(t, "snapshot", "save", file+".2")
	if code != exitError1 || !strings.Contains(stderr, "use the build that the cluster runs") {
		t.Errorf("snapshot save with the old build: %d, %s", code, stderr)
	}
	n.binary = next
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	s.allAgree(t)
}
