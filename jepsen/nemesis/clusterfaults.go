//go:build linux

package nemesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/network"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func clusterFamilies() []Family {
	return []Family{
		{Name: "transfer", For: time.Second, begin: transfer},
		{Name: "leader-flap", For: time.Second, Alone: true, begin: leaderFlap},
		{Name: "membership", For: 2 * time.Second, begin: membership},
		{Name: "empty-disk", For: 2 * time.Second, Alone: true, begin: emptyDisk},
		{Name: "backup-restore", For: 30 * time.Second, Alone: true, begin: backupRestore},
	}
}

// admin is a client of the nodes' operator API, from a place that no fault touches.
func (w *World) admin() (*client.Client, error) {
	return client.New(client.Config{Addresses: w.Cluster.Addresses(), Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return w.Spare.Namespace.DialContext(ctx, "tcp", address)
	}})
}

// transfer hands leadership over by the operator's word.
func transfer(_ context.Context, a *attempt) (*active, error) {
	before, _ := a.Probe.Leader()
	if before == "" {
		return nil, errNotNow
	}
	f := &active{make: func(ctx context.Context) error {
		c, err := a.admin()
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err = c.Cluster().TransferLeadership(ctx, &pb.TransferLeadershipRequest{})
		if client.ReasonOf(err) == client.UnknownOutcome {
			return nil // the answer is lost with the leadership; who leads now is looked at
		}
		return err
	}, end: func(context.Context) (bool, string, error) {
		after, _ := a.Probe.Leader()
		return after != "" && after != before, fmt.Sprintf("%s led, %s leads", before, after), nil
	}}
	return f, nil
}

// leaderFlap cuts whoever leads off for a moment, again and again.
func leaderFlap(_ context.Context, a *attempt) (*active, error) {
	const times = 4
	var seen []string
	f := &active{make: func(ctx context.Context) error {
		for range times {
			id, _ := a.Probe.Leader()
			x := a.Cluster.Node(id)
			if id == "" || x == nil {
				wait(ctx, 300*time.Millisecond)
				continue
			}
			seen = append(seen, id)
			r := rules{}
			for _, y := range a.Cluster.Nodes {
				if y != x {
					r[network.Link{From: x.Name, To: y.Name}] = cut
					r[network.Link{From: y.Name, To: x.Name}] = cut
				}
			}
			a.Cluster.Switch.Apply(a.name, r)
			wait(ctx, 900*time.Millisecond)
			a.Cluster.Switch.Remove(a.name)
			wait(ctx, 400*time.Millisecond)
		}
		return nil
	}, end: func(context.Context) (bool, string, error) {
		a.Cluster.Switch.Remove(a.name)
		id, _ := a.Probe.Leader()
		seen = append(seen, id)
		changes := 0
		for i := 1; i < len(seen); i++ {
			if seen[i] != seen[i-1] {
				changes++
			}
		}
		return changes > 0, "leaders: " + strings.Join(seen, ", "), nil
	}}
	return f.unserved(), nil
}

// expel takes a member out by the operator's word. A member that gossip has not given up
// yet is refused, so it is asked again.
func (w *World) expel(ctx context.Context, id string) error {
	c, err := w.admin()
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for {
		_, err = c.Cluster().RemovePeer(ctx, &pb.RemovePeerRequest{Id: id})
		if err == nil || ctx.Err() != nil {
			return err
		}
		wait(ctx, 500*time.Millisecond)
	}
}

// membership lets another node join, and takes it out again.
func membership(_ context.Context, a *attempt) (*active, error) {
	var added *node.Node
	f := &active{make: func(context.Context) (err error) {
		if added, err = a.Cluster.Invite(); err != nil {
			return err
		}
		return added.Start()
	}, end: func(ctx context.Context) (bool, string, error) {
		if added == nil {
			return false, "no node was added", nil
		}
		err := a.Probe.WaitHealthy(ctx, startWait, added)
		role, id := a.Probe.Role(added.Name), a.Probe.ServerID(added)
		err = errors.Join(err, added.Kill())
		if id != "" {
			err = errors.Join(err, a.expel(ctx, id))
		}
		return role == "learner" || role == "follower", fmt.Sprintf("%s joined as %q and was taken out", id, role), errors.Join(err, a.Cluster.Dismiss(added))
	}}
	return f, nil
}

// emptyDisk gives a node a new disk: it must not vote for the one it was. It is let in as
// a new member when the operator has taken the old one out.
func emptyDisk(_ context.Context, a *attempt) (*active, error) {
	x := a.anyFree()
	if x == nil {
		return nil, errNotNow
	}
	before, files := a.Probe.ServerID(x), 0
	if before == "" {
		return nil, errNotNow
	}
	one := []*node.Node{x}
	f := &active{make: func(context.Context) (err error) {
		if err := x.Kill(); err != nil {
			return err
		}
		if files, err = x.Disk.Wipe(); err != nil {
			return err
		}
		return x.Start()
	}, end: func(ctx context.Context) (bool, string, error) {
		bounded, cancel := context.WithTimeout(ctx, 2*startWait)
		defer cancel()
		err := a.expel(bounded, before)
		err = errors.Join(err, a.Probe.WaitHealthy(ctx, startWait, x))
		after := a.Probe.ServerID(x)
		if after == before {
			err = errors.Join(err, fmt.Errorf("%s has its old id on an empty disk", x.Name))
		}
		return after != "" && after != before, fmt.Sprintf("%d files gone; %s is now %s, a %s", files, before, after, a.Probe.Role(x.Name)), err
	}}
	return f.on(one, one), nil
}

// backupRestore makes a backup, lets the work go on, and restores it under the clients.
func backupRestore(_ context.Context, a *attempt) (*active, error) {
	var backup bytes.Buffer
	f := &active{make: func(ctx context.Context) error {
		c, err := a.admin()
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		return c.SaveSnapshot(ctx, &backup)
	}, end: func(ctx context.Context) (bool, string, error) {
		if backup.Len() == 0 {
			return false, "no backup was made", nil
		}
		c, err := a.admin()
		if err != nil {
			return false, "", err
		}
		defer c.Close(ctx)
		r, err := c.RestoreSnapshot(ctx, bytes.NewReader(backup.Bytes()), false)
		if err != nil {
			return false, fmt.Sprintf("a backup of %d bytes was not restored: %v", backup.Len(), err), nil
		}
		wait(ctx, time.Duration(r.CheckoutsWaitMs)*time.Millisecond) // the fence is part of it
		return r.RaftIndex > r.BackupRaftIndex, fmt.Sprintf("the state of entry %d was restored at %d (%d sessions, %d leases); checkouts wait for %d ms",
			r.BackupRaftIndex, r.RaftIndex, r.Sessions, r.Leases, r.CheckoutsWaitMs), nil
	}}
	return f, nil
}

// All are all families, those last that cannot be taken back.
func All() []Family {
	var all []Family
	for _, list := range [][]Family{networkFamilies(), processFamilies(), diskFamilies(), clockFamilies(), clusterFamilies()} {
		all = append(all, list...)
	}
	return all
}

// Named are the families of these names; an unknown name is an error.
func Named(names ...string) ([]Family, error) {
	var list []Family
	for _, name := range names {
		found := false
		for _, f := range append(All(), Stories()...) {
			if f.Name == name {
				list, found = append(list, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no fault family is called %q", name)
		}
	}
	return list, nil
}
