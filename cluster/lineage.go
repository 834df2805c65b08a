package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
)

const (
	// lookTimeout bounds the look for a recovered cluster before a node with data starts:
	// memberlist gives up on a silent address after two seconds.
	lookTimeout = gossipTimeout
	// originEntries is how many entries are read for the first Lead, which names the
	// cluster: before it a log has a configuration and an empty entry per election.
	originEntries = 10000
)

// origin is what a node's data says of the cluster that it is of.
type origin struct {
	clusterID  string
	recoveries uint64
	lineage    string
	founded    bool // there are data
}

// of fills in what is told to others.
func (o origin) of(m Member) Member {
	m.ClusterID, m.Recoveries, m.Lineage = o.clusterID, o.recoveries, o.lineage
	m.Founded = m.Founded || o.founded
	return m
}

// origin is that of the state, once it knows; right after a start nothing may have been
// applied yet.
func (n *Node) origin() origin {
	if s := n.fsm.Status(); s.ClusterID != "" {
		return origin{clusterID: s.ClusterID, recoveries: s.Recoveries, lineage: s.Lineage}
	}
	return n.begun
}

// origin reads the newest snapshot, or else the first entries of the log.
func (s *storage) origin() (o origin, err error) {
	list, err := s.snapshots.List()
	if err != nil {
		return o, fmt.Errorf("snapshots cannot be read: %w", err)
	}
	if len(list) > 0 {
		_, state, err := s.snapshots.Open(list[0].ID)
		if err != nil {
			return o, err
		}
		defer state.Close()
		st, err := fsm.ReadStatus(state)
		return origin{clusterID: st.ClusterID, recoveries: st.Recoveries, lineage: st.Lineage, founded: true}, err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return o, err
	}
	o.founded = last > 0
	for i := uint64(1); i <= min(last, originEntries); i++ {
		var l raft.Log
		if err := s.log.GetLog(i, &l); err != nil {
			return o, err
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if e, err := fsm.Decode(l.Data); err == nil && e.Lead.GetClusterId() != "" {
			o.clusterID = e.Lead.GetClusterId()
			return o, nil
		}
	}
	return o, nil
}

// outdated says that the cluster was recovered without this node, or goes on in a new one
// from a backup; "" if nobody says so.
// What this node holds may differ from what the cluster holds now, and together with
// others of its time it could be a second cluster.
func outdated(self Member, members []Member) string {
	for _, m := range members {
		if self.ClusterID != "" && m.ClusterID == self.ClusterID && m.Recoveries > self.Recoveries {
			return fmt.Sprintf("the cluster was recovered without this node, or restored in its place (%s says so): what it holds is old", m.ID)
		}
	}
	return ""
}

// startEmpty says what to do with a node whose data are of no use any more.
func startEmpty(dir string) string {
	return fmt.Sprintf("move %s away and start with an empty one; it joins as a new member", dir)
}

// lookAround asks the join addresses, before this node votes or serves, whether the
// cluster was recovered without it. Who cannot be asked in time cannot say so.
func (g *gossip) lookAround(cfg Config, self Member) error {
	if self.ClusterID == "" || len(cfg.Join) == 0 {
		return nil
	}
	answers := make(chan bool, len(cfg.Join))
	for _, address := range cfg.Join {
		g.done.Go(func() {
			_, err := g.list.Join([]string{address})
			answers <- err == nil
		})
	}
	timer := time.NewTimer(lookTimeout)
	defer timer.Stop()
	for range cfg.Join {
		select {
		case <-answers:
		case <-timer.C:
			return nil
		}
		if why := outdated(self, g.Members()); why != "" {
			return errors.New(why + "; " + startEmpty(cfg.DataDir))
		}
	}
	return nil
}
