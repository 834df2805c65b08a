package fsm_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// A policy, the profiles it gave to leases and what lingers by it are in the snapshot: a
// restored state machine writes the same one, and judges alike.
func TestPolicyIsPartOfTheSnapshot(t *testing.T) {
	f := fsm.New(fsm.Options{})
	index := uint64(1)
	lead, err := fsm.EncodeLead(fsm.Lead{Node: "n1", ClusterID: "c"}, launch)
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(&raft.Log{Index: index, Term: 1, Data: lead})
	do := func(f *fsm.FSM, cmd lease.Command) lease.Reply {
		t.Helper()
		index++
		data, err := fsm.EncodeBatch(1, lease.Time(index), launch, []lease.Command{cmd})
		if err != nil {
			t.Fatal(err)
		}
		return f.Apply(&raft.Log{Index: index, Term: 1, Data: data}).(fsm.Outcome).Replies[0]
	}
	ann := lease.Subject{Type: lease.SubjectUser, Name: "ann"}
	p := lease.Policy{
		FoldCase: true,
		Groups:   []lease.PolicyGroup{{Name: "lab", Hosts: true, Members: []string{"10.0.0.0/8"}, Priority: -3}},
		Rules: []lease.Rule{
			{Kind: lease.RuleReserve, Feature: "cad", Who: ann, Seats: 1},
			{Kind: lease.RuleProfile, Time: 7 * time.Second, Grace: 5 * time.Second},
			{Kind: lease.RuleLinger, Feature: "cad", Time: time.Hour},
		},
	}
	take := func(n byte, user string) lease.Checkout {
		return lease.Checkout{Session: lease.SessionRef{ID: lease.SessionID{n}}, Principal: lease.Principal{User: user}, Items: []lease.Item{{Feature: "cad", Count: 1}}}
	}
	for _, cmd := range []lease.Command{
		lease.InstallLicence{Licence: lease.Licence{ID: "L", Vendor: "acme", Tenant: "default", Entitlements: []lease.Entitlement{
			{Feature: "cad", Version: "1.0", Count: 3, Serial: "s", Profile: lease.DefaultProfile},
		}}},
		lease.ApplyPolicy{Policy: p}, take(1, "bob"), take(2, "eve"), lease.CheckIn{Session: lease.SessionRef{ID: lease.SessionID{2}}},
	} {
		if r := do(f, cmd); r.Refusal != nil {
			t.Fatalf("%T: %v", cmd, r.Refusal)
		}
	}
	saved := bytesOf(t, f)
	g := fsm.New(fsm.Options{})
	if err := g.Restore(io.NopCloser(bytes.NewReader(saved))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytesOf(t, g), saved) {
		t.Error("the restored state machine writes another snapshot")
	}
	at := index
	for _, x := range []*fsm.FSM{f, g} {
		index = at
		if r := do(x, take(3, "zoe")); r.Refusal == nil || r.Refusal.Reason != lease.ReservedForOthers {
			t.Errorf("zoe: %+v", r.Refusal)
		}
		r := do(x, take(4, "ANN"))
		if r.Refusal != nil || r.Leases[0].Remaining != 7*time.Second || r.Leases[0].Grace != 5*time.Second {
			t.Errorf("ann: %+v", r)
		}
		if r := do(x, take(5, "eve")); r.Refusal != nil {
			t.Errorf("eve's seat lingers for her: %v", r.Refusal)
		}
	}
	if !bytes.Equal(bytesOf(t, f), bytesOf(t, g)) {
		t.Error("the two went different ways")
	}
}
