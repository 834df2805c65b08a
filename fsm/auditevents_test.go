package fsm_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// A judge of the log has to know who was served from the queue by which command, and what a
// policy says. What a result says already is not told twice.
func TestAuditTellsWhatACommandDidForOthers(t *testing.T) {
	var told fsm.AuditEntry
	n := &node{t: t, f: fsm.New(fsm.Options{Observe: func(l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book, events []lease.Event) {
		told = fsm.Audit(l, e, o, b, events)
	}})}
	data, err := fsm.EncodeLead(fsm.Lead{Node: "n1", ClusterID: "c1"}, launch)
	n.log(data, err)
	l := licence()
	l.Entitlements = []lease.Entitlement{{Feature: "cad", Count: 1, Serial: "s1", Profile: lease.Profile{Lifespan: time.Minute, Grace: time.Minute}}}
	n.apply(lease.InstallLicence{Licence: l})
	n.apply(lease.ApplyPolicy{Policy: lease.Policy{Groups: []lease.PolicyGroup{{Name: "g", Members: []string{"ann"}, Priority: 3}}, Rules: []lease.Rule{
		{Kind: lease.RuleMax, Feature: "cad", Who: lease.Subject{Type: lease.SubjectGroup, Name: "g"}, Seats: 1}}}, Expected: lease.AnyVersion})
	if p := told.Commands[0].Policy; told.Commands[0].Kind != "apply_policy" || p == nil || len(p.Rules) != 1 || p.Groups[0].Priority != 3 ||
		p.Rules[0] != (fsm.AuditPolicyRule{Kind: "max", Feature: "cad", WhoType: "group", Who: "g", Seats: 1}) {
		t.Errorf("policy told as %+v", told.Commands[0])
	}

	// One entry: a seat is taken, another session waits for it, and gets it when it comes
	// back.
	waits := take(2, "cad")
	waits.Wait, waits.Principal = time.Minute, lease.Principal{User: "ann"}
	st := n.f.Status()
	data, err = fsm.EncodeBatch(st.Epoch.Index, st.Now+1, launch, []lease.Command{take(1, "cad"), waits, lease.CheckIn{Session: session(1, 0)}, take(2, "cad")})
	o := n.log(data, err)
	kinds := func(c int) (list []string) {
		for _, e := range told.Commands[c].Events {
			list = append(list, e.Kind)
		}
		return list
	}
	for c, want := range [][]string{nil, {"queued"}, {"release", "checkout", "dequeued"}, nil} {
		if got := kinds(c); !slices.Equal(got, want) {
			t.Errorf("command %d did %v, want %v", c, got, want)
		}
	}
	place := told.Commands[1].Result.Place
	if place == nil || *place != (fsm.AuditPlace{Ticket: 1, Position: 1, Priority: 3}) || told.Commands[1].Events[0].Ticket != 1 {
		t.Errorf("place told as %+v, %+v", place, told.Commands[1].Events)
	}
	granted := o.Replies[3].Leases[0]
	got := told.Commands[2].Events[1]
	if got.ID != uint64(granted.ID) || got.User != "ann" || got.Session != granted.Session.String() || !slices.Equal(got.Seats, []int{1}) {
		t.Errorf("the grant is told as %+v, want %+v", got, granted)
	}
}
