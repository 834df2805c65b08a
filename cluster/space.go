package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Limits of disk space.
const (
	// spaceAlarm: below this part of free space the leader grants no new seats, while
	// there is still room for weeks of heartbeats and check-ins.
	spaceAlarm = 0.10
	// spaceClear ends the alarm; it is higher, so that the alarm does not come and go.
	spaceClear = 0.12
	// spaceInterval is how often the disk is looked at.
	spaceInterval = time.Second
	// spaceToStart is the least a node starts with: an entry of 512 KiB is copied a few
	// times on its way to the disk. Starting with less would only end at the first write.
	spaceToStart = 8 << 20
)

// fullError is returned for what takes seats while disks are nearly full. It is an
// ErrOverloaded to those who ask.
type fullError struct{ why string }

func (e *fullError) Error() string {
	return e.why + ": no new checkouts, borrowed seats or bookings until there is space; heartbeats and check-ins go on"
}

func (e *fullError) Is(target error) bool { return target == ErrOverloaded }

// checkSpaceToStart refuses a disk that could not take the first entries.
func checkSpaceToStart(dir string, measure func(dir string) (free, total uint64, err error)) error {
	free, _, err := measure(dir)
	if err != nil {
		return fmt.Errorf("free space of data directory %s cannot be read: %w", dir, err)
	}
	if free < spaceToStart {
		return fmt.Errorf("disk of data directory %s is full: %d KiB free, at least %d KiB are needed; free space, then start again", dir, free>>10, spaceToStart>>10)
	}
	return nil
}

// watchSpace looks at the disk until ctx ends. A hung disk leaves one waiter behind and
// costs nothing else.
func (n *Node) watchSpace(ctx context.Context) {
	type result struct {
		free, total uint64
		err         error
	}
	ticker := time.NewTicker(spaceInterval)
	defer ticker.Stop()
	answers := make(chan result, 1)
	asked := false
	for {
		if !asked {
			asked = true
			n.waiters.Go(func() {
				free, total, err := n.cfg.DiskSpace(n.cfg.DataDir)
				answers <- result{free, total, err}
			})
		}
		select {
		case r := <-answers:
			asked = false
			if r.err == nil && r.total > 0 {
				n.noteSpace(float64(r.free) / float64(r.total))
			}
			n.judgeSpace()
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// noteSpace raises or ends this node's alarm.
func (n *Node) noteSpace(free float64) {
	n.metrics.diskFree.Set(free)
	switch low := n.diskLow.Load(); {
	case !low && free < spaceAlarm:
		n.diskLow.Store(true)
		n.metrics.diskAlarm.Set(1)
		n.log.Error("disk nearly full: as leader this node grants no new checkouts until there is space",
			"data_dir", n.cfg.DataDir, "free_percent", int(free*100), "clear_at_percent", int(spaceClear*100))
	case low && free >= spaceClear:
		n.diskLow.Store(false)
		n.metrics.diskAlarm.Set(0)
		n.log.Info("disk has space again", "data_dir", n.cfg.DataDir, "free_percent", int(free*100))
	}
}

// judgeSpace decides whether new checkouts are to be refused.
func (n *Node) judgeSpace() {
	n.full.Store(tooFull(n.configuration().Servers, n.lowNodes(), n.id))
}

// tooFull says why the leader must refuse new checkouts, nil if it need not: its own
// disk counts, and so do those of other voters when no majority with space is left.
func tooFull(servers []raft.Server, low map[string]bool, leader string) *fullError {
	if low[leader] {
		return &fullError{"the disk of the leader is nearly full"}
	}
	roomy, voters := 0, 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
			if !low[string(s.ID)] {
				roomy++
			}
		}
	}
	if voters > 0 && roomy <= voters/2 {
		return &fullError{"the disks of most nodes are nearly full"}
	}
	return nil
}

// lowNodes are the nodes whose disks are nearly full, by their own word.
func (n *Node) lowNodes() map[string]bool {
	low := map[string]bool{}
	if n.discovery != nil {
		for _, m := range n.discovery.Members() {
			if m.DiskLow {
				low[m.ID] = true
			}
		}
	}
	delete(low, n.id)
	if n.diskLow.Load() {
		low[n.id] = true
	}
	return low
}

// refuseNew returns an error for a command that must wait for disk space: one that takes
// seats, by whatever name.
func (n *Node) refuseNew(cmd lease.Command) error {
	switch cmd.(type) {
	case lease.Checkout, lease.Borrow, lease.MakeBooking:
	default:
		return nil
	}
	if full := n.full.Load(); full != nil {
		return full
	}
	return nil
}

// Alarms lists what an operator should look at on this node and, where gossip knows of
// it, on others; one line each, in the order of the members.
func (n *Node) Alarms() []string {
	var out []string
	low := n.lowNodes()
	for _, s := range n.configuration().Servers {
		if low[string(s.ID)] {
			out = append(out, fmt.Sprintf("node %s: its disk is nearly full (less than %d %% free)", s.ID, int(spaceAlarm*100)))
		}
	}
	if full := n.full.Load(); full != nil {
		out = append(out, full.Error())
	}
	if waiting := n.replaced.Load(); waiting != nil {
		out = append(out, *waiting...)
	}
	out = append(out, n.versionAlarms()...)
	return out
}
