//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// threat is a cluster with tokens; the story's own connection is an admin's.
type threat struct {
	*story
	admin string
}

// as speaks to the cluster with a token of its own kind.
func (s *threat) as(t *testing.T, args ...string) *conn {
	t.Helper()
	code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": s.address(), "SEATKEEPER_TOKEN": s.admin},
		append([]string{"token", "create"}, args...)...)
	if code != 0 {
		t.Fatal(stderr)
	}
	return s.with(t, strings.TrimSpace(out))
}

func (s *threat) with(t *testing.T, token string) *conn {
	t.Helper()
	c, err := dialCluster(Client{Addr: s.address(), Token: token}, callTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wantReason wants an error with one of the reasons.
func wantReason(t *testing.T, what string, err error, reasons ...lease.Reason) {
	t.Helper()
	got := client.ReasonOf(err)
	for _, want := range reasons {
		if got == want {
			return
		}
	}
	t.Errorf("%s: answered %v (%s), want one of %v", what, err, got, reasons)
}

// One cluster for all that somebody may try who has seen, guessed or forged something. What
// the rightful holders have is the same afterwards.
func TestWhatIsStolenForgedOrReplayedChangesNothing(t *testing.T) {
	inFull(t)
	t.Parallel()
	lendable := unshared("laptop", 2, longProfile)
	lendable.borrow = "24h"
	s := &threat{story: startStory(t, unshared("cad", 5, longProfile), unshared("solver", 2, longProfile), lendable)}
	code, out, stderr := s.cli(t, "acl", "bootstrap")
	if code != 0 {
		t.Fatal(stderr)
	}
	s.admin = strings.TrimSpace(out)
	s.conn.Close()
	s.conn = s.with(t, s.admin)
	t.Run("a session is hijacked", s.hijack)
	t.Run("requests are sent again", s.replay)
	t.Run("a borrowed token is sent again", s.replayBorrowed)
	t.Run("the wrong tenant", s.wrongTenant)
	t.Run("the wrong role", s.wrongRole)
	t.Run("a token is guessed", s.guessedTokens)
	t.Run("a licence is forged", s.forgedLicences)
}

// hijack: the ids of a session and of its lease are no secret; an operator's listing shows
// them. Without the secret they are worth nothing.
func (s *threat) hijack(t *testing.T) {
	ann, eve := s.as(t, "--role", "client", "--user", "ann"), s.as(t, "--role", "client", "--user", "eve")
	mine, err := ann.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", Host: "ws1"})
	if err != nil {
		t.Fatal(err)
	}
	hers, err := eve.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", Host: "ws2"})
	if err != nil {
		t.Fatal(err)
	}
	id, held := mine.Session.Id, mine.Leases[0]
	for what, secret := range map[string]string{"no secret": "", "another session's secret": hers.Session.Secret,
		"a changed secret": strings.Map(func(r rune) rune { return 'a' }, mine.Session.Secret)} {
		bad := []lease.Reason{lease.Forbidden, lease.Invalid}
		_, err := eve.seats.Renew(t.Context(), &pb.RenewRequest{SessionId: id, SessionSecret: secret})
		wantReason(t, "renew with "+what, err, bad...)
		_, err = eve.seats.Checkin(t.Context(), &pb.CheckinRequest{SessionId: id, SessionSecret: secret, Seq: 9})
		wantReason(t, "check-in with "+what, err, bad...)
		if secret != "" {
			_, err = eve.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", SessionId: id, SessionSecret: secret, Seq: 10})
			wantReason(t, "checkout with "+what, err, bad...)
		}
	}
	// In her own session she cannot name the lease of another.
	_, err = eve.seats.Checkin(t.Context(), &pb.CheckinRequest{SessionId: hers.Session.Id, SessionSecret: hers.Session.Secret, Seq: 2, Refs: []*pb.LeaseRef{ref(held)}})
	wantReason(t, "check-in of another's lease", err, lease.Fenced)
	_, err = eve.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", User: "ann"})
	wantReason(t, "checkout in another's name", err, lease.Forbidden)
	if v, err := ann.seats.Verify(t.Context(), &pb.VerifyRequest{LeaseId: held.Id, FencingToken: held.FencingToken}); err != nil || !v.Valid {
		t.Errorf("ann's lease: %v %v", v, err)
	}
	for c, x := range map[*conn]*pb.CheckoutResponse{ann: mine, eve: hers} {
		if _, err := c.seats.Checkin(t.Context(), &pb.CheckinRequest{SessionId: x.Session.Id, SessionSecret: x.Session.Secret, Seq: 20}); err != nil {
			t.Fatal(err)
		}
	}
}

// replay: somebody kept whole requests, with secrets and token, as they may where TLS is off.
// (Bytes of a TLS connection that was listened to are worth nothing: each connection has keys
// of its own, and early data is not accepted, so there is nothing of ours to try.)
func (s *threat) replay(t *testing.T) {
	ann := s.as(t, "--role", "client", "--user", "ann")
	minted, err := (&app{}).openSession(sessionFlags{})
	if err != nil {
		t.Fatal(err)
	}
	take := func(seq uint64) *pb.CheckoutRequest {
		return &pb.CheckoutRequest{Feature: "solver", SessionId: minted.ID, SessionSecret: minted.Secret, Seq: seq}
	}
	back := &pb.CheckinRequest{SessionId: minted.ID, SessionSecret: minted.Secret, Seq: 2}
	first, err := ann.seats.Checkout(t.Context(), take(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := ann.seats.Checkout(t.Context(), take(1))
		if err != nil || again.Leases[0].Id != first.Leases[0].Id || again.Leases[0].FencingToken != first.Leases[0].FencingToken {
			t.Fatalf("the same checkout again: %v %v", again, err)
		}
	}
	if n := s.inUse(t, "solver"); n != 1 {
		t.Errorf("after a checkout sent six times %d seats are in use", n)
	}
	if _, err := ann.seats.Checkin(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	_, err = ann.seats.Checkout(t.Context(), take(1))
	wantReason(t, "an old checkout", err, lease.StaleRequest)
	if n := s.inUse(t, "solver"); n != 0 {
		t.Errorf("an old checkout took %d seats", n)
	}
	if _, err := ann.seats.Checkout(t.Context(), take(3)); err != nil {
		t.Fatal(err)
	}
	_, err = ann.seats.Checkin(t.Context(), back)
	wantReason(t, "an old check-in", err, lease.StaleRequest)
	if n := s.inUse(t, "solver"); n != 1 {
		t.Errorf("after an old check-in %d seats are in use, want 1", n)
	}
	eve := s.as(t, "--role", "client", "--user", "eve")
	stolen := take(4)
	stolen.User = "ann"
	_, err = eve.seats.Checkout(t.Context(), stolen)
	wantReason(t, "ann's request by eve's token", err, lease.Forbidden)
	back.Seq = 5
	if _, err := ann.seats.Checkin(t.Context(), back); err != nil {
		t.Fatal(err)
	}
}

// replayBorrowed: a token that was renewed or returned is spent; it touches nobody else.
func (s *threat) replayBorrowed(t *testing.T) {
	ann, bob := s.as(t, "--role", "client", "--user", "ann"), s.as(t, "--role", "client", "--user", "bob")
	lend := func(c *conn, host string) *pb.BorrowResponse {
		t.Helper()
		x, err := pb.NewBorrowingClient(c.client).Borrow(t.Context(), &pb.BorrowRequest{Feature: "laptop", Host: host, TermMs: uint64(time.Hour.Milliseconds())})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	old := lend(ann, "ws1")
	borrowing := pb.NewBorrowingClient(ann.client)
	if _, err := borrowing.ReturnBorrow(t.Context(), &pb.ReturnBorrowRequest{Token: old.Token}); err != nil {
		t.Fatal(err)
	}
	next, another := lend(bob, "ws2"), lend(bob, "ws3")
	for range 2 {
		if x, err := borrowing.ReturnBorrow(t.Context(), &pb.ReturnBorrowRequest{Token: old.Token}); err == nil && x.GetReleased() != nil {
			t.Errorf("a spent token returns %v", x)
		}
		if x, err := borrowing.RenewBorrow(t.Context(), &pb.RenewBorrowRequest{Token: old.Token}); err == nil {
			t.Errorf("a spent token is renewed: %v", x)
		}
	}
	head, _, _ := strings.Cut(next.Token, ".")
	_, rest, _ := strings.Cut(old.Token, ".")
	if x, err := borrowing.ReturnBorrow(t.Context(), &pb.ReturnBorrowRequest{Token: head + "." + rest + "A"}); err == nil {
		t.Errorf("a token put together of two is taken: %v", x)
	}
	if n := s.inUse(t, "laptop"); n != 2 {
		t.Errorf("%d seats are lent, want bob's two", n)
	}
	for _, x := range []*pb.BorrowResponse{next, another} {
		if _, err := pb.NewBorrowingClient(bob.client).ReturnBorrow(t.Context(), &pb.ReturnBorrowRequest{Token: x.Token}); err != nil {
			t.Error(err)
		}
	}
}

func (s *threat) wrongTenant(t *testing.T) {
	ann := s.as(t, "--role", "client", "--user", "ann")
	other, boss := s.as(t, "--role", "client", "--only-tenant", "other"), s.as(t, "--role", "operator", "--only-tenant", "other")
	mine, err := ann.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", Host: "ws1"})
	if err != nil {
		t.Fatal(err)
	}
	held := mine.Leases[0]
	_, err = other.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", Tenant: "default"})
	wantReason(t, "checkout of another tenant", err, lease.Forbidden)
	_, err = other.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad"})
	wantReason(t, "checkout where nothing is licensed", err, lease.NoFeature)
	_, err = boss.cluster.Leases(t.Context(), &pb.LeasesRequest{Tenant: "default"})
	wantReason(t, "leases of another tenant", err, lease.Forbidden)
	if list, err := boss.cluster.Leases(t.Context(), &pb.LeasesRequest{}); err != nil || len(list.Leases) != 0 {
		t.Errorf("leases: %v %v", list, err)
	}
	_, err = boss.cluster.Kill(t.Context(), &pb.KillRequest{Tenant: "default", LeaseIds: []uint64{held.Id}})
	wantReason(t, "kill in another tenant", err, lease.Forbidden)
	if x, err := boss.cluster.Kill(t.Context(), &pb.KillRequest{LeaseIds: []uint64{held.Id}}); err == nil && len(x.Killed) > 0 {
		t.Errorf("another tenant's operator killed %v", x.Killed)
	}
	_, err = boss.cluster.TransferLeadership(t.Context(), &pb.TransferLeadershipRequest{})
	wantReason(t, "a tenant's operator moves the leader", err, lease.Forbidden)
	if v, err := ann.seats.Verify(t.Context(), &pb.VerifyRequest{LeaseId: held.Id, FencingToken: held.FencingToken}); err != nil || !v.Valid {
		t.Errorf("ann's lease: %v %v", v, err)
	}
}

func (s *threat) wrongRole(t *testing.T) {
	ann, viewer, vendor := s.as(t, "--role", "client"), s.as(t, "--role", "viewer"), s.as(t, "--role", "vendor")
	_, err := ann.cluster.Kill(t.Context(), &pb.KillRequest{User: "ann"})
	wantReason(t, "a client kills", err, lease.Forbidden)
	_, err = viewer.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad"})
	wantReason(t, "a viewer checks out", err, lease.Forbidden)
	_, err = vendor.client.Access().TokenCreate(t.Context(), &pb.TokenCreateRequest{Role: "admin"})
	wantReason(t, "a vendor makes a token", err, lease.Forbidden)
	_, err = ann.cluster.LicenseRemove(t.Context(), &pb.LicenseRemoveRequest{Id: "L-1"})
	wantReason(t, "a client removes a licence", err, lease.Forbidden)
	_, err = pb.NewPoliciesClient(viewer.client).PolicyApply(t.Context(), &pb.PolicyApplyRequest{Policy: &pb.Policy{}})
	wantReason(t, "a viewer changes the policy", err, lease.Forbidden)
}

func (s *threat) guessedTokens(t *testing.T) {
	id := strings.Split(s.admin, "_")[1]
	guesses := map[string]string{
		"an admin's id, another secret": "skt_" + id + "_" + strings.Repeat("0", 64),
		"an admin's id alone":           id,
		"garbage":                       "Bearer",
		"a token of nobody":             "skt_0123456789abcdef_" + strings.Repeat("1", 64),
	}
	for what, text := range guesses {
		_, err := s.with(t, text).cluster.Leases(t.Context(), &pb.LeasesRequest{})
		wantReason(t, what, err, "unauthenticated")
		if err != nil && strings.Contains(err.Error(), text) && len(text) > 16 {
			t.Errorf("%s: the refusal shows what was sent: %v", what, err)
		}
	}
	_, err := s.with(t, "").cluster.Leases(t.Context(), &pb.LeasesRequest{})
	wantReason(t, "no token", err, "unauthenticated")
}

func (s *threat) forgedLicences(t *testing.T) {
	before := s.status(t).Pools
	features := "feature: cad\nversion: 1.0\ncount: 5\nexpiry: never\nserial: F-1\n"
	good := s.sign(t, "L-forged", features)
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bound := write("bound.txt", []byte("seatkeeper-license/1\nlicense: L-bound\nvendor: "+s.vendor.Name+"\ntenant: default\ncluster: another-one\nissued: 2026-01-01\n\n"+features))
	files := map[string]string{
		"more seats than were signed":       write("more.lic", bytes.Replace(text, []byte("count: 5"), []byte("count: 500"), 1)),
		"another tenant than was signed":    write("tenant.lic", bytes.Replace(text, []byte("tenant: default"), []byte("tenant: mine"), 1)),
		"no signature":                      write("none.lic", text[:bytes.LastIndex(bytes.TrimSpace(text), []byte("\n"))+1]),
		"a vendor that nobody trusts":       s.signedBy(t, write("doc.txt", []byte("seatkeeper-license/1\nlicense: L-x\nvendor: evil\ntenant: default\ncluster: any\nissued: 2026-01-01\n\n"+features)), "evil"),
		"a stranger with the vendor's name": s.signedBy(t, write("doc.txt", []byte("seatkeeper-license/1\nlicense: L-x\nvendor: "+s.vendor.Name+"\ntenant: default\ncluster: any\nissued: 2026-01-01\n\n"+features)), s.vendor.Name),
		"signed for another cluster":        s.signed(t, bound),
	}
	for what, file := range files {
		code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": s.address(), "SEATKEEPER_TOKEN": s.admin}, "license", "apply", file)
		if code == 0 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q", what, code, stderr)
		}
	}
	after := s.status(t).Pools
	if len(after) != len(before) || after[0].Total != before[0].Total || after[0].Feature != before[0].Feature {
		t.Errorf("the pools were %v and are %v", before, after)
	}
}

// signedBy signs with a key that nobody has told the cluster of.
func (s *threat) signedBy(t *testing.T, document, vendor string) string {
	t.Helper()
	key, out := filepath.Join(t.TempDir(), "key"), document+".lic"
	if code, _, stderr := s.cli(t, "license", "keygen", vendor, "--out", key); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := s.cli(t, "license", "sign", document, "--key", key+".signer.key", "--out", out); code != 0 {
		t.Fatal(stderr)
	}
	return out
}
