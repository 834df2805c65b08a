//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// application is a program under "seatkeeper run": a client process of its own.
type application struct {
	*process
	program   int // the pid of what it runs
	session   string
	id, token uint64
}

// startApplication starts a program that holds one seat until it is told to end.
func (s *story) startApplication(t *testing.T, feature, state string) *application {
	t.Helper()
	p := start(t, []string{"SEATKEEPER_ADDR=" + s.address()}, "run", feature, "--state", state, "--user", feature, "--host", "ws", "--",
		"sh", "-c", "echo $$ $SEATKEEPER_SESSION_ID $SEATKEEPER_LEASE_ID $SEATKEEPER_FENCING_TOKEN; exec sleep 600")
	a := &application{process: p}
	if _, err := fmt.Sscan(p.line(), &a.program, &a.session, &a.id, &a.token); err != nil {
		t.Fatal(err)
	}
	// Nobody else ends it if its parent dies early.
	t.Cleanup(func() { _ = syscall.Kill(a.program, syscall.SIGKILL) })
	return a
}

// crash ends the program and the process that keeps its seat, without a word.
func (a *application) crash() {
	a.signal(syscall.SIGKILL)
	_ = syscall.Kill(a.program, syscall.SIGKILL)
	<-a.exited
}

// quit ends the program in good order.
func (a *application) quit() {
	a.t.Helper()
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 128+int(syscall.SIGTERM) {
		a.t.Errorf("the application ends with %d: %s", code, a.stderr.String())
	}
}

// stateOf waits until a feature's only lease is in a state, and returns it.
func (s *story) stateOf(t *testing.T, feature string, want lease.State) *pb.LeaseEntry {
	t.Helper()
	var found *pb.LeaseEntry
	eventually(t, fmt.Sprintf("a lease of %s that is %s", feature, want), func() error {
		list := s.leases(t, feature)
		if len(list) != 1 || list[0].State != want.String() {
			return fmt.Errorf("there are %v", list)
		}
		found = list[0]
		return nil
	})
	return found
}

func TestTokenLife(t *testing.T) {
	s := startStory(t, unshared("beat", 2, lease.Profile{Lifespan: storyLifespan, Grace: 2 * storyGrace}), unshared("app", 2, patientProfile),
		unshared("crash", 2, patientProfile), seats("shared", 2, patientProfile), unshared("killed", 2, patientProfile))
	stop := s.mostInUse(t)
	together(t, map[string]func(*testing.T){
		"missed heartbeats": func(t *testing.T) { missedHeartbeats(t, s) },
		"missed by the SDK": func(t *testing.T) { missedBySDK(t, s) },
		"crash":             func(t *testing.T) { crashAndRestart(t, s) },
		"four share":        func(t *testing.T) { fourShare(t, s) },
		"kill":              func(t *testing.T) { killFreesAtOnce(t, s) },
	})
	for feature, most := range stop() {
		if most != 1 {
			t.Errorf("%s: up to %d seats were in use, want 1", feature, most)
		}
	}
}

// One heartbeat missed: expiring, still charged. One in the grace: active again. Two
// missed: gone.
func missedHeartbeats(t *testing.T, s *story) {
	web := s.newWeb(t, "beat", nil)
	held := web.checkout(t, "beat", 1)
	entry := s.stateOf(t, "beat", lease.Expiring)
	if entry.Id != held.Id || entry.FencingToken != held.FencingToken || entry.RemainingMs != 0 || s.inUse(t, "beat") != 1 {
		t.Errorf("in its grace the lease is %v, %d seats in use", entry, s.inUse(t, "beat"))
	}
	if !web.verify(t, held.Id, held.FencingToken) {
		t.Error("in its grace the token is refused")
	}
	answer, refusal := web.renew(t)
	if refusal != nil || len(answer.Leases) != 1 || answer.Leases[0].Id != held.Id || answer.Leases[0].FencingToken != held.FencingToken ||
		answer.Leases[0].State != "active" || answer.Leases[0].RemainingMs < uint32(storyHeartbeat.Milliseconds()) {
		t.Fatalf("a heartbeat in the grace is answered %v %+v", answer, refusal)
	}
	s.stateOf(t, "beat", lease.Active)
	s.stateOf(t, "beat", lease.Expiring)
	s.waitInUse(t, "beat", 0)
	if web.verify(t, held.Id, held.FencingToken) {
		t.Error("after its grace the token is believed")
	}
	if answer, refusal := web.renew(t); refusal != nil || len(answer.Leases) != 0 || len(answer.Lost) != 1 || answer.Lost[0].Id != held.Id || answer.Lost[0].Reason != "missed_heartbeat" {
		t.Errorf("after its grace a heartbeat is answered %v %+v", answer, refusal)
	}
	records, err := s.conn.cluster.Usage(t.Context(), &pb.UsageRequest{Feature: "beat"})
	if err != nil || len(records.Records) != 1 || records.Records[0].Reason != "missed_heartbeat" || records.Records[0].LeaseId != held.Id {
		t.Errorf("usage: %v %v", records, err)
	}
}

// The same as an application sees it, whose path is dead for more than a lifespan.
func missedBySDK(t *testing.T, s *story) {
	w := newWire(t, s)
	changes := make(chan client.Change, 10)
	_, session := s.sdk(t, "app", w.dial, client.SessionConfig{OnStateChange: func(c client.Change) { changes <- c }})
	held := take(t, session, "app", 1)
	ref := held.Ref()
	next := func(from, to client.State) {
		t.Helper()
		select {
		case c := <-changes:
			if c.From != from || c.To != to || c.Reason != "" {
				t.Errorf("told of %s to %s (%s), want %s to %s", c.From, c.To, c.Reason, from, to)
			}
		case <-time.After(patience):
			t.Fatalf("never told of %s to %s", from, to)
		}
	}
	w.pull()
	next(client.Active, client.Expiring)
	if !held.Valid() {
		t.Error("in the grace the application may not go on")
	}
	w.plug()
	next(client.Expiring, client.Active)
	if held.Ref() != ref || s.stateOf(t, "app", lease.Active).Id != uint64(ref.ID) {
		t.Errorf("the lease is %v, want %v", held.Ref(), ref)
	}
}

// An application that dies and is started again in time has its seat, the same lease
// with the same token.
func crashAndRestart(t *testing.T, s *story) {
	state := filepath.Join(t.TempDir(), "crash.json")
	first := s.startApplication(t, "crash", state)
	first.crash()
	if n := s.inUse(t, "crash"); n != 1 {
		t.Errorf("after the crash %d seats are in use, want 1: it may come back", n)
	}
	second := s.startApplication(t, "crash", state)
	if second.id != first.id || second.token != first.token || second.session != first.session {
		t.Errorf("lease %d token %d of session %s, want %d %d of %s", second.id, second.token, second.session, first.id, first.token, first.session)
	}
	second.quit()
	if n := s.inUse(t, "crash"); n != 0 {
		t.Errorf("after it ended %d seats are in use", n)
	}
	third := s.startApplication(t, "crash", state)
	if third.id == first.id || third.token <= first.token {
		t.Errorf("a new run has lease %d token %d; the one returned was %d %d", third.id, third.token, first.id, first.token)
	}
	third.quit()
}

// Four sessions of one user on one host are charged once.
func fourShare(t *testing.T, s *story) {
	ann := client.SessionConfig{Principal: lease.Principal{User: "ann", Host: "ws1"}}
	var clients []*client.Client
	for i := range 4 {
		c, session := s.sdk(t, "ann", nil, ann)
		held := take(t, session, "shared", 1)
		if got := held.Seats(); len(got) != 1 || got[0] != 1 {
			t.Errorf("session %d has seats %v, want the one they share", i+1, got)
		}
		clients = append(clients, c)
	}
	if n := s.inUse(t, "shared"); n != 1 {
		t.Errorf("four sessions use %d seats, want 1", n)
	}
	_, fifth := s.sdk(t, "ann", nil, ann)
	if _, err := fifth.Checkout(t.Context(), client.Item{Feature: "shared"}); client.ReasonOf(err) != lease.SessionsExceeded {
		t.Errorf("the fifth is answered %v, want sessions_exceeded", err)
	}
	web := s.newWeb(t, "ann", nil)
	request := web.checkoutRequest(&pb.Item{Feature: "shared"})
	request.Host = "ws1"
	if r := web.do(t, "/v1/checkout", request, &pb.CheckoutResponse{}); r == nil || r.Status != 409 || r.Reason != "sessions_exceeded" {
		t.Errorf("by HTTP the fifth is answered %+v", r)
	}
	for i, c := range clients {
		if n := s.inUse(t, "shared"); n != 1 {
			t.Errorf("%d closed: %d seats in use, want 1", i, n)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.inUse(t, "shared"); n != 0 {
		t.Errorf("all closed: %d seats in use", n)
	}
}

// An operator's kill frees the seat at once; its holder hears of it with the next
// heartbeat.
func killFreesAtOnce(t *testing.T, s *story) {
	_, session := s.sdk(t, "eve", nil, client.SessionConfig{})
	held := take(t, session, "killed", 1)
	lost, token := held.Lost(), held.Token()
	if code, out, stderr := s.cli(t, "kill", "--feature", "killed", "--user", "eve"); code != 0 {
		t.Fatalf("kill: %d %s %s", code, out, stderr)
	}
	killed := time.Now()
	if n := s.inUse(t, "killed"); n != 0 {
		t.Errorf("after the kill %d seats are in use", n)
	}
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the holder never hears of it")
	}
	// By itself, without a heartbeat, it would have gone on for much longer.
	if took := time.Since(killed); took > storyLifespan+storyElection {
		t.Errorf("the holder heard of it after %s, want with its next heartbeat (%s)", took, storyHeartbeat)
	}
	if held.Valid() || held.Reason() != lease.Reason(lease.ReleasedByAdmin.String()) {
		t.Errorf("valid %v, reason %q", held.Valid(), held.Reason())
	}
	if again := take(t, session, "killed", 1); again.Token() <= token {
		t.Errorf("token %d, want above %d", again.Token(), token)
	}
	if err := session.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	web := s.newWeb(t, "eve", nil)
	mine := web.checkout(t, "killed", 1)
	if code, out, stderr := s.cli(t, "kill", "--lease", strconv.FormatUint(mine.Id, 10)); code != 0 {
		t.Fatalf("kill: %d %s %s", code, out, stderr)
	}
	answer, refusal := web.renew(t)
	if refusal != nil || len(answer.Leases) != 0 || len(answer.Lost) != 1 || answer.Lost[0].Id != mine.Id || answer.Lost[0].Reason != "removed_by_admin" {
		t.Errorf("the next heartbeat is answered %v %+v", answer, refusal)
	}
}

func ref(l *pb.Lease) *pb.LeaseRef { return &pb.LeaseRef{Id: l.Id, FencingToken: l.FencingToken} }

// A zombie is a client that was paused while its seat went to somebody else and that
// does not know it.
func TestZombieIsFenced(t *testing.T) {
	s := startStory(t, unshared("process", 1, storyProfile), unshared("short", 1, storyProfile), unshared("long", 1, lease.DefaultProfile), unshared("older", 2, patientProfile))
	stop := s.mostInUse(t)
	together(t, map[string]func(*testing.T){
		"a paused process":          func(t *testing.T) { pausedProcess(t, s) },
		"a session that lives on":   func(t *testing.T) { sessionLivesOn(t, s) },
		"an older run of a session": func(t *testing.T) { olderRun(t, s) },
	})
	for feature, most := range stop() {
		if most != 1 {
			t.Errorf("%s: up to %d seats were in use, want 1", feature, most)
		}
	}
}

// pausedProcess: SIGSTOP beyond deadline and grace, a successor, SIGCONT.
func pausedProcess(t *testing.T, s *story) {
	state := filepath.Join(t.TempDir(), "zombie.json")
	zombie := s.startApplication(t, "process", state)
	saved, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	zombie.signal(syscall.SIGSTOP)
	_, successor := s.sdk(t, "next", nil, client.SessionConfig{})
	leases, err := successor.CheckoutWait(t.Context(), patience, client.Item{Feature: "process"})
	if err != nil {
		t.Fatal(err)
	}
	next := leases[0]
	if uint64(next.Token()) <= zombie.token || uint64(next.ID()) == zombie.id {
		t.Fatalf("the successor has lease %d token %d, the zombie %d %d", next.ID(), next.Token(), zombie.id, zombie.token)
	}
	verify := func(id, token uint64, want int) {
		t.Helper()
		if code, out, stderr := s.cli(t, "verify", strconv.FormatUint(id, 10), "--token", strconv.FormatUint(token, 10)); code != want {
			t.Errorf("verify %d --token %d: exit code %d, want %d: %s %s", id, token, code, want, out, stderr)
		}
	}
	verify(zombie.id, zombie.token, exitNotAllowed)
	zombie.signal(syscall.SIGCONT)
	eventually(t, "the zombie to learn of its loss", func() error {
		if !strings.Contains(zombie.stderr.String(), "lost the seat of process") {
			return fmt.Errorf("stderr: %q", zombie.stderr.String())
		}
		return nil
	})
	zombie.quit() // it gives back what it thinks is its own
	verify(zombie.id, zombie.token, exitNotAllowed)
	verify(uint64(next.ID()), uint64(next.Token()), exitOK)

	// And by hand, with all that the zombie knew and all that it could guess.
	web := s.newWeb(t, "zombie", nil)
	var old session // the state files of run and of single steps name these alike
	if err := json.Unmarshal(saved, &old); err != nil || old.Secret == "" {
		t.Fatalf("state file %s: %v", saved, err)
	}
	web.id, web.secret = old.ID, old.Secret
	if _, r := web.renew(t, &pb.LeaseRef{Id: zombie.id, FencingToken: zombie.token}); r == nil || r.Reason != "session_unknown" {
		t.Errorf("its heartbeat is answered %+v", r)
	}
	for _, target := range []*pb.LeaseRef{{Id: zombie.id, FencingToken: zombie.token}, {Id: uint64(next.ID()), FencingToken: uint64(next.Token())}, {Id: uint64(next.ID())}} {
		if _, r := web.checkin(t, target); r == nil || r.Reason != "session_unknown" {
			t.Errorf("its return of %v is answered %+v", target, r)
		}
	}
	if !next.Valid() || s.inUse(t, "process") != 1 {
		t.Errorf("the successor holds %v, %d seats in use", next.Valid(), s.inUse(t, "process"))
	}
}

// sessionLivesOn: one lease of a session went to a successor, another keeps the
// session alive. Nothing the session says touches the successor.
func sessionLivesOn(t *testing.T, s *story) {
	zombie, next := s.newWeb(t, "slow", nil), s.newWeb(t, "next", nil)
	var both pb.CheckoutResponse
	if r := zombie.do(t, "/v1/checkout", zombie.checkoutRequest(&pb.Item{Feature: "short"}, &pb.Item{Feature: "long"}), &both); r != nil {
		t.Fatalf("%+v", r)
	}
	old := both.Leases[0]
	request := next.checkoutRequest(&pb.Item{Feature: "short"})
	var answer pb.CheckoutResponse
	eventually(t, "a seat for the successor", func() error {
		if r := next.do(t, "/v1/checkout", request, &answer); r != nil {
			if r.Reason != "no_seats" {
				t.Fatalf("%+v", r)
			}
			request = next.checkoutRequest(request.Items...)
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	mine := answer.Leases[0]
	if mine.FencingToken <= old.FencingToken {
		t.Errorf("the successor's token %d is not above %d", mine.FencingToken, old.FencingToken)
	}
	for _, target := range []*pb.LeaseRef{ref(old), {Id: old.Id}, ref(mine), {Id: mine.Id}, {Id: old.Id, FencingToken: mine.FencingToken}, {Id: mine.Id, FencingToken: old.FencingToken}} {
		if _, r := zombie.checkin(t, target); r == nil || r.Status != 409 || r.Reason != "fenced" || r.Code != "ABORTED" {
			t.Errorf("its return of %v is answered %+v, want fenced", target, r)
		}
	}
	renewed, r := zombie.renew(t, ref(old))
	if r != nil || len(renewed.Leases) != 1 || renewed.Leases[0].Feature != "long" || len(renewed.Lost) != 1 || renewed.Lost[0].Id != old.Id || renewed.Lost[0].Reason != "missed_heartbeat" {
		t.Errorf("its heartbeat is answered %v %+v", renewed, r)
	}
	for _, c := range []struct {
		id, token uint64
		want      bool
	}{{old.Id, old.FencingToken, false}, {mine.Id, old.FencingToken, false}, {old.Id, mine.FencingToken, false}, {mine.Id, mine.FencingToken, true}} {
		if got := zombie.verify(t, c.id, c.token); got != c.want {
			t.Errorf("verify of lease %d token %d says %v", c.id, c.token, got)
		}
	}
	if _, r := zombie.checkin(t); r != nil { // all it holds: the long one
		t.Errorf("%+v", r)
	}
	if n := s.inUse(t, "short"); n != 1 {
		t.Errorf("%d seats in use, want the successor's", n)
	}
}

// olderRun: while a process is paused, another one takes its session over.
func olderRun(t *testing.T, s *story) {
	dir := t.TempDir()
	state, moved := filepath.Join(dir, "state.json"), filepath.Join(dir, "moved.json")
	old := s.startApplication(t, "older", state)
	old.signal(syscall.SIGSTOP)
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(moved, data, 0o600); err != nil {
		t.Fatal(err)
	}
	newer := s.startApplication(t, "older", moved)
	if newer.id != old.id || newer.token != old.token {
		t.Errorf("the newer run has lease %d token %d, want %d %d", newer.id, newer.token, old.id, old.token)
	}
	old.signal(syscall.SIGCONT)
	eventually(t, "the older run to be fenced", func() error {
		if !strings.Contains(old.stderr.String(), "lost the seat of older") || !strings.Contains(old.stderr.String(), "fenced") {
			return fmt.Errorf("stderr: %q", old.stderr.String())
		}
		return nil
	})
	old.quit()
	if n := s.inUse(t, "older"); n != 1 {
		t.Errorf("the older run has returned the newer one's seat: %d in use", n)
	}
	newer.quit()
	if n := s.inUse(t, "older"); n != 0 {
		t.Errorf("after the newer run %d seats are in use", n)
	}
}
