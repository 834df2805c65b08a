package sim

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// judgedLog is a state machine without a cluster whose entries the monitor judges.
type judgedLog struct {
	t     *testing.T
	w     *world
	fsm   *fsm.FSM
	steps []step
	index uint64
	seqs  map[lease.SessionID]uint64
}

func (j *judgedLog) next(id lease.SessionID) uint64 {
	j.seqs[id]++
	return j.seqs[id]
}

func newJudgedLog(t *testing.T) *judgedLog {
	j := &judgedLog{t: t, w: newWorld(Config{Seed: 1, Ruled: true}), seqs: map[lease.SessionID]uint64{}}
	j.fsm = fsm.New(fsm.Options{
		Step: func(_ *raft.Log, pb *logv1.Command, r lease.Reply, b *lease.Book, events []lease.Event) {
			j.steps = append(j.steps, newStep(pb, r, b, events))
		},
		Observe: func(l *raft.Log, e *logv1.Entry, o fsm.Outcome, _ *lease.Book, _ []lease.Event) {
			j.w.monitor.entry("n1", l, e, o, j.steps)
			j.steps = nil
		},
	})
	data, err := fsm.EncodeLead(fsm.Lead{Node: "n1", ClusterID: "c"}, 1)
	j.apply(data, err)
	j.entry(lease.InstallLicence{Licence: j.w.licence(2)}, lease.RotateBorrowKey{Kid: "k", Public: [32]byte{1}, Seed: [32]byte{2}})
	return j
}

func (j *judgedLog) apply(data []byte, err error) fsm.Outcome {
	j.t.Helper()
	if err != nil {
		j.t.Fatal(err)
	}
	j.index++
	return j.fsm.Apply(&raft.Log{Index: j.index, Term: 1, Type: raft.LogCommand, Data: data}).(fsm.Outcome)
}

// entry applies commands in one entry.
func (j *judgedLog) entry(cmds ...lease.Command) {
	j.t.Helper()
	for i := range cmds {
		switch c := cmds[i].(type) { // every session numbers its requests
		case lease.Checkout:
			c.Session.Seq = j.next(c.Session.ID)
			cmds[i] = c
		case lease.CheckIn:
			c.Session.Seq = j.next(c.Session.ID)
			cmds[i] = c
		case lease.Borrow:
			c.Session.Seq = j.next(c.Session.ID)
			cmds[i] = c
		}
	}
	data, err := fsm.EncodeBatch(1, lease.Time(j.w.real()), 1, cmds)
	for i, r := range j.apply(data, err).Replies {
		if r.Refusal != nil && r.Refusal.Reason != lease.InQueue {
			j.t.Fatalf("%T: %v", cmds[i], r.Refusal)
		}
	}
}

// pass lets time pass as an expirer does, a second at a time.
func (j *judgedLog) pass(seconds int) {
	j.t.Helper()
	for range seconds {
		time.Sleep(time.Second)
		j.entry(lease.Tick{})
		if due := j.fsm.Due(100); len(due) > 0 {
			j.entry(due...)
		}
	}
}

func asking(n byte, wait time.Duration, features ...string) lease.Checkout {
	c := lease.Checkout{Session: lease.SessionRef{ID: lease.SessionID{n}, Incarnation: 1}, Principal: lease.Principal{User: "u" + string('a'+rune(n)), Host: "h"}, Wait: wait}
	for _, f := range features {
		c.Items = append(c.Items, lease.Item{Feature: f, Count: 1})
	}
	return c
}

func givingBack(n byte) lease.CheckIn {
	return lease.CheckIn{Session: lease.SessionRef{ID: lease.SessionID{n}, Incarnation: 1}}
}

func policyOfRules(rules ...lease.Rule) lease.ApplyPolicy {
	p := plainPolicy()
	p.Rules = rules
	return lease.ApplyPolicy{Policy: p, Expected: lease.AnyVersion}
}

// What one command does is judged by how things stood before and after it, not before and
// after its entry: these are right, and looked wrong by the state after the whole entry.
func TestEntriesOfSeveralCommandsAreJudgedOneByOne(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(j *judgedLog)
	}{
		{"an offer is granted by a policy that the entry replaces", func(j *judgedLog) {
			j.entry(asking(1, 0, "mesh"))
			j.entry(asking(2, time.Minute, "mesh"))
			j.pass(1)
			short := lease.Rule{Kind: lease.RuleProfile, Feature: "mesh", Time: 5 * time.Second, Grace: time.Second}
			j.entry(policyOfRules(short), givingBack(1), policyOfRules())
			j.pass(8) // nobody collects it
		}},
		{"an offer is borrowed in the entry that makes it", func(j *judgedLog) {
			j.entry(asking(1, 0, "field"), asking(3, 0, "field"), asking(4, 0, "field"))
			j.entry(asking(2, time.Minute, "field"))
			j.pass(1)
			x := asking(2, 0, "field")
			j.entry(givingBack(1), lease.Borrow{Session: x.Session, Principal: x.Principal, Item: x.Items[0], For: 2 * time.Second})
			j.pass(12)
		}},
		{"a seat is granted before somebody ahead claims one", func(j *judgedLog) {
			j.entry(policyOfRules(lease.Rule{Kind: lease.RuleLinger, Feature: "cad", Time: 5 * time.Second}))
			j.entry(asking(1, 0, "cad"), asking(9, 0, "mesh"))
			j.entry(asking(1, time.Minute, "cad", "mesh"))
			j.entry(asking(3, 0, "cad"), givingBack(1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJudgedLog(t)
				c.do(j)
				for _, v := range j.w.report.Violations {
					t.Error(v)
				}
			})
		})
	}
}

func byUser(user string, c lease.Checkout) lease.Checkout {
	c.Principal.User = user
	return c
}

// A command that frees much may serve many: each grant is judged by the place it serves, and
// by what others had when it was made.
func TestEachGrantOfACommandIsJudgedByItself(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(j *judgedLog)
	}{
		{"a session wants again what it gives back, at its old place", func(j *judgedLog) {
			j.entry(asking(2, 0, "cad"), asking(2, 0, "draft"), asking(8, 0, "cad"))
			j.entry(asking(3, 0, "units"), asking(4, 0, "units"), asking(5, 0, "units"), asking(6, 0, "units"))
			j.entry(asking(2, time.Minute, "cad", "units"))
			j.entry(asking(7, time.Minute, "cad"))
			j.entry(givingBack(2))
		}},
		{"who has a reservation is served beyond a cap, after somebody below it", func(j *judgedLog) {
			j.entry(policyOfRules(
				lease.Rule{Kind: lease.RuleReserve, Feature: "units", Who: lease.Subject{Type: lease.SubjectUser, Name: "user0"}, Seats: 1},
				lease.Rule{Kind: lease.RuleMax, Feature: "units", Who: lease.Subject{Type: lease.SubjectGroup, Name: "even"}, Seats: 3}))
			all := byUser("user1", asking(1, 0, "units"))
			all.Items[0].Count = 5
			j.entry(all)
			j.entry(byUser("user2", asking(11, time.Minute, "draft")))
			j.entry(byUser("user0", asking(12, time.Minute, "draft")))
			j.entry(givingBack(1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJudgedLog(t)
				c.do(j)
				if j.w.report.Offered != 2 {
					t.Errorf("%d leases were granted from the queue, not 2", j.w.report.Offered)
				}
				for _, v := range j.w.report.Violations {
					t.Error(v)
				}
			})
		})
	}
}

// What nobody ends is late, by whatever epoch it should have been ended.
func TestWhatIsNotEndedInTimeIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudgedLog(t)
		j.entry(asking(1, 0, "mesh"))
		j.entry(asking(2, 5*time.Second, "mesh"))
		for range 30 { // a leader that looks at nothing
			time.Sleep(time.Second)
			j.entry(lease.Tick{})
		}
		for _, want := range []string{"lease", "place"} {
			if !slices.ContainsFunc(j.w.report.Violations, func(v string) bool { return strings.HasPrefix(v, "L7") && strings.Contains(v, want) }) {
				t.Errorf("no %s was late: %v", want, j.w.report.Violations)
			}
		}
	})
}
