package cluster

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Start opens the data directory, the raft and gossip ports and starts a node. Its
// errors are one line each and say what to do.
func Start(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := cfg.validateNetwork(); err != nil {
		return nil, err
	}
	var opened closers
	n, err := assemble(cfg, &opened)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return n, nil
}

// assemble opens what a node stands on, in order. What it has opened is in opened, also
// when it fails.
func assemble(cfg Config, opened *closers) (*Node, error) {
	store, err := openStorage(cfg.DataDir, cfg.Name, cfg.LogStore, cfg.Logger)
	if err != nil {
		return nil, err
	}
	opened.add(store.Close)
	sweepBackups(cfg.DataDir)
	if err := checkSpaceToStart(cfg.DataDir, cfg.DiskSpace); err != nil {
		return nil, err
	}
	marked, err := checkVersion(cfg.DataDir, store.snapshots, cfg.Understands)
	if err != nil {
		return nil, err
	}
	machine, kept, err := startMachine(cfg, store, opened)
	if err != nil {
		return nil, err
	}
	doors, closeDoors, err := newDoorMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	opened.add(closeDoors)
	trans, err := listenRaft(cfg, store.id, doors)
	if err != nil {
		return nil, err
	}
	found, err := store.origin()
	if err != nil {
		trans.Close()
		return nil, err
	}
	self := found.of(memberOf(cfg, store.id, string(trans.LocalAddr())))
	g, err := startGossip(cfg, self, doors)
	if err != nil {
		trans.Close()
		return nil, err
	}
	opened.add(g.Close)
	if err := g.lookAround(cfg, self); err != nil {
		trans.Close()
		return nil, err
	}
	n, err := New(cfg, Parts{
		ID:       store.id,
		LogStore: store.log, StableStore: store.log, Snapshots: store.snapshots,
		Transport: trans, Discovery: g, Clocks: systemClocks(), FSM: machine, history: kept, marked: marked, begun: found,
		Close: opened.Close,
	})
	if err != nil {
		trans.Close()
		return nil, err
	}
	trans.stream.answer(n)
	store.log.run(n.fail)
	return n, nil
}

// closers are what was opened, to be closed in reverse.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) Close() error {
	var errs []error
	for _, f := range slices.Backward(*c) {
		errs = append(errs, f())
	}
	*c = nil
	return errors.Join(errs...)
}

// startMachine makes the state machine of a real node: it tells the log how far it has
// applied, feeds the history and the logs that the config asks for, and ends the process
// rather than go on after an entry that it cannot trust.
func startMachine(cfg Config, store *storage, opened *closers) (*fsm.FSM, *history, error) {
	var applied atomic.Uint64
	store.log.applied = applied.Load
	kept, err := openHistory(cfg.DataDir, cfg.Logger.Named("history"))
	if err != nil {
		return nil, nil, err
	}
	opened.add(kept.Close)
	followers, err := openLogs(cfg, store.id, opened)
	if err != nil {
		return nil, nil, err
	}
	return fsm.New(fsm.Options{
		Understands: cfg.Understands,
		Fatal: func(err error) {
			cfg.Logger.Error("giving up", "reason", err)
			go cfg.Fatal(err.Error())
			select {} // the process ends; with the next entry it would be another replica
		},
		Observe: func(l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book, events []lease.Event) {
			applied.Store(l.Index)
			kept.observe(l, b.Calendar(), events)
			for _, f := range followers {
				f.observe(l, e, o, b, events)
			}
		},
		Restored: func(s fsm.Status, b *lease.Book) {
			kept.restored(s)
			for _, f := range followers {
				f.restored(s, b)
			}
		},
		Persisting: func(s fsm.Status) {
			kept.persist(s.Calendar)
			for _, f := range followers {
				f.persist()
			}
		},
	}), kept, nil
}

// follower writes down what a node applies. Its calls must not wait for a disk, but for
// persist.
type follower interface {
	observe(l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book, events []lease.Event)
	restored(s fsm.Status, b *lease.Book)
	// persist returns once what was observed so far is on its way to the disk.
	persist()
}

// openLogs opens the logs that the config asks for.
func openLogs(cfg Config, id string, opened *closers) (list []follower, err error) {
	if cfg.AuditLog != "" {
		audit, err := openAppliedLog(cfg.AuditLog, id, cfg.Version, cfg.Logger.Named("audit"))
		if err != nil {
			return nil, err
		}
		opened.add(func() error { audit.Close(); return nil })
		list = append(list, audit)
	}
	if cfg.DebugLog != "" {
		debug, err := openDebugLog(cfg.DebugLog, cfg.DataDir, time.Local, cfg.Logger.Named("debuglog"))
		if err != nil {
			return nil, err
		}
		opened.add(debug.Close)
		list = append(list, debug)
	}
	return list, nil
}
