package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Limits of an upgrade.
const (
	// versionInterval is how often members are asked what they understand while the log
	// version is below what this build could use.
	versionInterval = time.Second
	// versionTimeout bounds one question: a member that takes longer is not there.
	versionTimeout = time.Second
	// raiseTimeout bounds the entry that raises the version; it is tried again.
	raiseTimeout = 3 * time.Second
)

// VersionError is returned for a command that not every member is known to understand; it
// is not in the log, and will not be.
type VersionError struct {
	What           string // "this" or "the backup"
	Needs, Cluster uint32
	// Behind says for each member that has to be upgraded which it is and why. None: all
	// understand it by now, and the version is about to be raised.
	Behind []string
}

func (e *VersionError) Error() string {
	text := fmt.Sprintf("%s needs log version %d and the cluster is at %d: ", e.What, e.Needs, e.Cluster)
	if len(e.Behind) == 0 {
		return text + "the version is being raised, try again"
	}
	return text + "upgrade " + strings.Join(e.Behind, ", and ")
}

// versionAsker is a transport that can ask a server what its build understands. What is
// not a real network has none, and its cluster never raises the version.
type versionAsker interface {
	askVersion(ctx context.Context, id raft.ServerID, at raft.ServerAddress, c currentVersion) (said, error)
}

// currentVersion is what an asking node says: where the cluster stands.
type currentVersion struct {
	ClusterID  string
	LogVersion uint32
}

// said is a server's own word about its build.
type said struct {
	ID         string `json:"id"`
	LogVersion uint32 `json:"log_version"`
	Build      string `json:"build"`
}

// heard is what a member said when it was last asked, or why it did not.
type heard struct {
	said
	err error
}

// tendVersion raises the log version once every member understands a higher one, and keeps
// a mark of it in the data directory. It runs on every node: each wants to know whom to
// name.
func (n *Node) tendVersion(ctx context.Context) {
	ticker := time.NewTicker(versionInterval)
	defer ticker.Stop()
	for {
		at := n.fsm.LogVersion()
		n.noteVersion(at)
		if at >= n.fsm.Understands() || n.asker == nil {
			n.heard.Store(nil)
		} else {
			told := n.askMembers(ctx)
			n.heard.Store(&told)
			if e := n.current.Load(); e != nil {
				n.raiseVersion(ctx, e, at, told)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			n.noteVersion(n.fsm.LogVersion())
			return
		}
	}
}

// askMembers asks every server of the raft configuration, voter or not, what it understands.
func (n *Node) askMembers(ctx context.Context) []heard {
	servers := n.configuration().Servers
	told := make([]heard, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { told[i] = n.askServer(ctx, s.ID, s.Address) })
	}
	wg.Wait()
	return told
}

func (n *Node) askServer(ctx context.Context, id raft.ServerID, at raft.ServerAddress) heard {
	if string(id) == n.id {
		return heard{said: n.says()}
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	st := n.fsm.Status()
	answer, err := n.asker.askVersion(ctx, id, at, currentVersion{st.ClusterID, st.LogVersion})
	if err == nil && answer.ID != string(id) {
		err = fmt.Errorf("%s answers", answer.ID)
	}
	answer.ID = string(id)
	return heard{answer, err}
}

// says is what this node tells others of its build.
func (n *Node) says() said {
	return said{ID: n.id, LogVersion: n.fsm.Understands(), Build: n.cfg.Version}
}

// raiseVersion commits what every member has just said that it understands. A member that
// goes back to an older build in this very moment, or one that is added, stops at the entry.
func (n *Node) raiseVersion(ctx context.Context, e *epoch, at uint32, told []heard) {
	raise := fsm.RaiseVersion{Version: n.fsm.Understands()}
	for _, h := range told {
		if h.err != nil {
			return
		}
		raise.Version = min(raise.Version, h.LogVersion)
		raise.Told = append(raise.Told, fsm.ToldVersion{ID: h.ID, Version: h.LogVersion, Build: h.Build})
	}
	if len(told) == 0 || raise.Version <= at {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, raiseTimeout)
	defer cancel()
	if err := e.proposer.proposeOwn(ctx, []lease.Command{raise}); err != nil {
		n.log.Warn("log version not raised", "to", raise.Version, "error", err)
		return
	}
	n.log.Info("every member understands it: log version raised", "from", at, "to", raise.Version)
}

// behind words why members keep the version below need, one phrase for each.
func (n *Node) behind(need uint32) (out []string) {
	told := n.heard.Load()
	if told == nil {
		return nil
	}
	for _, h := range *told {
		switch {
		case h.err != nil:
			out = append(out, fmt.Sprintf("node %s (it does not say what it understands: %v)", h.ID, h.err))
		case h.LogVersion < need:
			out = append(out, fmt.Sprintf("node %s (version %s, understands log version %d)", h.ID, h.Build, h.LogVersion))
		}
	}
	return out
}

// explain names who holds a refused command back.
func (n *Node) explain(err error) error {
	if v := (*VersionError)(nil); errors.As(err, &v) {
		return n.versionError(v.What, v.Needs)
	}
	return err
}

func (n *Node) versionError(what string, needs uint32) *VersionError {
	return &VersionError{What: what, Needs: needs, Cluster: n.fsm.LogVersion(), Behind: n.behind(needs)}
}

// Understands is the highest log version that this node's build knows.
func (n *Node) Understands() uint32 { return n.fsm.Understands() }

// leaderBehind refuses a command that this node knows and the leader does not: its answer
// would be that it has never heard of it.
func (n *Node) leaderBehind(cmd lease.Command) error {
	told := n.heard.Load()
	if told == nil {
		return nil // no upgrade is under way
	}
	e, err := fsm.EncodeCommand(cmd)
	if err != nil || e.Needs() <= n.fsm.LogVersion() {
		return nil
	}
	leader, _ := n.Leader()
	if slices.ContainsFunc(*told, func(h heard) bool { return h.ID == leader.Node && h.err == nil && h.LogVersion < e.Needs() }) {
		return n.versionError("this", e.Needs())
	}
	return nil
}

// versionAlarms say who keeps an upgrade from its end.
func (n *Node) versionAlarms() (out []string) {
	at := n.fsm.LogVersion()
	for _, b := range n.behind(n.fsm.Understands()) {
		out = append(out, fmt.Sprintf("the cluster stays at log version %d until all are upgraded: %s", at, b))
	}
	if list := n.tooOld.Load(); list != nil {
		out = append(out, *list...)
	}
	return out
}

// fit leaves out of the changes the joining of servers that do not understand the log. While
// the log is of the first version, everybody does.
func (n *Node) fit(ctx context.Context, changes []memberChange) (out []memberChange) {
	at := n.fsm.LogVersion()
	var refused []string
	for _, c := range changes {
		if joins := !c.voter && !n.isMember(c.m.ID); joins && at > fsm.FirstVersion && n.asker != nil {
			h := n.askServer(ctx, raft.ServerID(c.m.ID), raft.ServerAddress(c.m.RaftAddress))
			switch {
			case h.err != nil:
				refused = append(refused, fmt.Sprintf("node %s waits to join and does not say which log version it understands: %v", c.m.ID, h.err))
				continue
			case h.LogVersion < at:
				refused = append(refused, fmt.Sprintf("node %s (version %s) may not join: it understands log version %d and the cluster is at %d; upgrade it", c.m.ID, h.Build, h.LogVersion, at))
				continue
			}
		}
		out = append(out, c)
	}
	if old := n.tooOld.Swap(&refused); len(refused) > 0 && (old == nil || !slices.Equal(*old, refused)) {
		for _, r := range refused {
			n.log.Warn(r)
		}
	}
	return out
}

func (n *Node) isMember(id string) bool {
	return slices.ContainsFunc(n.configuration().Servers, func(s raft.Server) bool { return string(s.ID) == id })
}

// hear is told by another node where its cluster stands. If that is this node's cluster, or
// the one that it is about to join, and beyond what its build understands, it stops now
// rather than at the first entry that it cannot read.
func (n *Node) hear(c currentVersion) {
	own := n.fsm.Status().ClusterID
	if c.LogVersion > n.fsm.Understands() && (own == "" || own == c.ClusterID) {
		n.fail((&fsm.NewerError{What: "the cluster", Needs: c.LogVersion, Understands: n.fsm.Understands()}).Error())
	}
}

// noteVersion shows the log version, and marks the data directory when it has grown: a
// build that is too old for it says so at its start.
func (n *Node) noteVersion(at uint32) {
	n.metrics.logVersion.Set(float64(at))
	if n.cfg.DataDir == "" || at <= n.marked {
		return
	}
	if err := writeSynced(filepath.Join(n.cfg.DataDir, versionFile), fmt.Sprintln(at)); err != nil {
		n.log.Warn("log version not noted in the data directory", "error", err)
		return
	}
	n.marked = at
}
