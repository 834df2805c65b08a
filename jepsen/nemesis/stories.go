//go:build linux

package nemesis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/network"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Stories are faults that bring out one kind of bug each. They leave less to chance than
// those of All, and are not part of it.
func Stories() []Family {
	return []Family{
		{Name: "pause-leader", For: 1500 * time.Millisecond, begin: func(_ context.Context, a *attempt) (*active, error) {
			return a.standstill(a.leader(), (*node.Node).Pause, (*node.Node).Resume)
		}},
		{Name: "leader-of-another-age", For: 3 * time.Second, Alone: true, begin: leaderOfAnotherAge},
		{Name: "clock-ahead", For: processFor, Needs: bendable, begin: clockJump(time.Hour)},
		{Name: "answers-lost", For: 4 * time.Second, begin: func(_ context.Context, a *attempt) (*active, error) { return a.answersLost(), nil }},
		{Name: "answers-lost-restart", For: 3 * time.Second, Alone: true, begin: answersLostRestart},
		{Name: "late-answers-cut", For: 7 * time.Second, begin: lateAnswersCut},
		{Name: "leader-writes-late", For: 2 * time.Second, Alone: true, begin: leaderWritesLate},
		{Name: "empty-disk-votes", For: 3 * time.Second, Alone: true, begin: emptyDiskVotes},
	}
}

// leaderOfAnotherAge restarts a follower, lets it lead for a while, and gives the
// leadership back to the older process.
func leaderOfAnotherAge(_ context.Context, a *attempt) (*active, error) {
	old := a.Probe.LeaderNode()
	if old == nil {
		return nil, errNotNow
	}
	var young *node.Node
	for _, x := range a.free {
		if x != old {
			young = x
		}
	}
	if young == nil {
		return nil, errNotNow
	}
	led := false
	f := &active{make: func(ctx context.Context) error {
		err := errors.Join(young.Kill(), young.Start(), a.Probe.WaitHealthy(ctx, startWait, a.Cluster.Nodes...))
		if err != nil {
			return err
		}
		led, err = a.handOver(ctx, young)
		return err
	}, end: func(ctx context.Context) (bool, string, error) {
		again, err := a.handOver(ctx, old)
		return led && again, fmt.Sprintf("%s was started again and led: %t, then %s led again: %t", young.Name, led, old.Name, again), err
	}}
	return f.on([]*node.Node{young}, nil).unserved(), nil
}

// handOver gives the leadership to a node by the operator's word, and says whether it
// leads.
func (w *World) handOver(ctx context.Context, to *node.Node) (bool, error) {
	c, err := w.admin()
	if err != nil {
		return false, err
	}
	defer c.Close(ctx)
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		// Whether it worked is looked at: the answer may be lost with the leadership.
		_, err = c.Cluster().TransferLeadership(ctx, &pb.TransferLeadershipRequest{To: to.Name})
		wait(ctx, 500*time.Millisecond)
		if w.Probe.LeaderNode() == to {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, err
		}
	}
}

// answersLost lets all requests in and no answer out.
func (a *attempt) answersLost() *active {
	r := rules{}
	var all []string
	for _, g := range a.Clients {
		for _, x := range a.Cluster.Nodes {
			r[network.Link{From: x.Name, To: g.Name}] = cut
		}
		all = append(all, a.Workers.Places[g.Name]...)
	}
	f := a.apply(r)
	f.cutOff = all
	return f.unserved()
}

// answersLostRestart also ends all nodes at once, before the answers can be asked for
// again: what the nodes know of the requests then comes from their disks.
func answersLostRestart(_ context.Context, a *attempt) (*active, error) {
	f := a.answersLost()
	off := f.end
	f.end = func(ctx context.Context) (bool, string, error) {
		errs := a.all(func(x *node.Node) error { return errors.Join(x.Kill(), x.Start()) })
		bit, proof, err := off(ctx)
		return bit, proof + fmt.Sprintf("; %d nodes were ended and started", len(a.Cluster.Nodes)), errors.Join(errs, err)
	}
	return f, nil
}

// all does the same to all nodes at once.
func (a *attempt) all(do func(*node.Node) error) error {
	errs := make(chan error, len(a.Cluster.Nodes))
	for _, x := range a.Cluster.Nodes {
		go func() { errs <- do(x) }()
	}
	var failed []error
	for range a.Cluster.Nodes {
		failed = append(failed, <-errs)
	}
	return errors.Join(failed...)
}

// lateAnswersCut delays the answers to one place of clients for a while and then cuts it
// off: the last thing its clients heard was old when they heard it.
func lateAnswersCut(_ context.Context, a *attempt) (*active, error) {
	// Answers take almost as long as a client waits for one.
	const late, heard = 800 * time.Millisecond, 2500 * time.Millisecond
	g := a.Clients[a.rng.IntN(len(a.Clients))]
	delayed, none := rules{}, rules{}
	for _, x := range a.Cluster.Nodes {
		delayed[network.Link{From: x.Name, To: g.Name}] = network.Rule{Delay: late}
		none[network.Link{From: g.Name, To: x.Name}] = cut
	}
	f := a.apply(none)
	cutOff := f.make
	f.make = func(ctx context.Context) error {
		a.Cluster.Switch.Apply(a.name+"-late", delayed)
		wait(ctx, heard)
		return cutOff(ctx)
	}
	off := f.end
	f.end = func(ctx context.Context) (bool, string, error) {
		c := a.Cluster.Switch.Remove(a.name + "-late")
		bit, proof, err := off(ctx)
		return bit && c.Touched() > 0, proof + fmt.Sprintf("; before that %d packets late by %v", c.Delayed, late), err
	}
	f.cutOff = a.Workers.Places[g.Name]
	return f, nil
}

// leaderOfThree gives the leader of three nodes and the two others, or nil if there are not
// three, or one of them is broken already, or none leads.
func (a *attempt) leaderOfThree() (leader, one, other *node.Node) {
	leader = a.Probe.LeaderNode()
	if leader == nil || len(a.Cluster.Nodes) != 3 || len(a.free) < 3 {
		return nil, nil, nil
	}
	for _, x := range a.Cluster.Nodes {
		switch {
		case x == leader:
		case one == nil:
			one = x
		default:
			other = x
		}
	}
	return leader, one, other
}

// leaderWritesLate loses what a leader has sent to one follower and not yet written itself:
// the other follower is cut off, the leader's disk takes seconds for a sync, then both that
// have something end at once, and the leader and the follower that was cut off are the first
// to come back. What was acknowledged meanwhile is on one disk only, that of a minority.
func leaderWritesLate(_ context.Context, a *attempt) (*active, error) {
	const (
		sync    = 2500 * time.Millisecond // what one sync of the leader takes
		ahead   = 1500 * time.Millisecond // how long the one follower has it before all ends
		elected = 5 * time.Second         // how long the two have for an election
	)
	leader, lagging, ready := a.leaderOfThree()
	if leader == nil || leader.Disk.Faults() != (disk.Faults{}) {
		return nil, errNotNow
	}
	before, led := leader.Disk.Counts(), ""
	f := &active{make: func(ctx context.Context) error {
		r := rules{}
		r.both(lagging.Name, leader.Name, cut)
		r.both(lagging.Name, ready.Name, cut)
		a.Cluster.Switch.Apply(a.name, r)
		wait(ctx, ahead)
		leader.Disk.SetFaults(disk.Faults{SyncDelay: sync})
		wait(ctx, ahead)
		// A process that waits for its disk is gone only when the disk has answered.
		ended := make(chan error, 1)
		go func() { ended <- leader.Kill() }()
		err := errors.Join(ready.Kill(), <-ended)
		leader.Disk.SetFaults(disk.Faults{})
		a.Cluster.Switch.Remove(a.name)
		if err = errors.Join(err, leader.Start()); err != nil {
			return err
		}
		wait(ctx, elected)
		led, _ = a.Probe.Leader()
		return ready.Start()
	}, end: func(ctx context.Context) (bool, string, error) {
		slow := leader.Disk.Counts().Minus(before).Delayed
		err := a.Probe.WaitHealthy(ctx, startWait, a.Cluster.Nodes...)
		return slow > 0 && led != "", fmt.Sprintf("%d syncs of %s took %v; then it was ended together with %s; without that %q led", slow, leader.Name, sync, ready.Name, led), err
	}}
	return f.on(a.Cluster.Nodes, a.Cluster.Nodes).unserved(), nil
}

// emptyDiskVotes tries to elect a node that lacks what was acknowledged: one node is cut
// off while the others go on, then one of these gets a new disk and the last one stands
// still. What a majority has stored is in reach of no majority then, unless the node with
// the new disk passes for the one it was.
func emptyDiskVotes(_ context.Context, a *attempt) (*active, error) {
	const (
		behind  = 2 * time.Second // how long the first node misses what is committed, at least
		missed  = 60              // entries that it misses, at least
		atMost  = 8 * time.Second // or it takes too long
		elected = 5 * time.Second // how long the second and it have for an election
	)
	leader, lagging, wiped := a.leaderOfThree()
	if leader == nil {
		return nil, errNotNow
	}
	before := a.Probe.ServerID(wiped)
	files, led := 0, ""
	f := &active{make: func(ctx context.Context) error {
		r := rules{}
		r.both(lagging.Name, leader.Name, cut)
		r.both(lagging.Name, wiped.Name, cut)
		a.Cluster.Switch.Apply(a.name, r)
		from := a.Probe.Applied(leader)
		wait(ctx, behind)
		for began := time.Now(); a.Probe.Applied(leader) < from+missed && time.Since(began) < atMost && ctx.Err() == nil; {
			wait(ctx, probeTimeout/10)
		}
		err := errors.Join(wiped.Kill(), leader.Kill())
		a.Cluster.Switch.Remove(a.name)
		if err != nil {
			return err
		}
		if files, err = wiped.Disk.Wipe(); err != nil {
			return err
		}
		if err := wiped.Start(); err != nil {
			return err
		}
		wait(ctx, elected)
		led, _ = a.Probe.Leader()
		return leader.Start()
	}, end: func(ctx context.Context) (bool, string, error) {
		bounded, cancel := context.WithTimeout(ctx, 2*startWait)
		defer cancel()
		after := a.Probe.ServerID(wiped)
		var err error
		if after != before {
			err = a.expel(bounded, before)
		}
		err = errors.Join(err, a.Probe.WaitHealthy(ctx, startWait, a.Cluster.Nodes...))
		return files > 0, fmt.Sprintf("%d files of %s gone, it was %s and is %s; without %s %q led", files, wiped.Name, before, after, leader.Name, led), err
	}}
	return f.on(a.Cluster.Nodes, a.Cluster.Nodes).unserved(), nil
}
