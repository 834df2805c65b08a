package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// Epoch is one leadership, named by the index of its Lead entry.
type Epoch struct {
	Index, Term      uint64
	Node, APIAddress string
}

// Outcome is what one log entry came to; Apply returns it by value as the raft response.
type Outcome struct {
	Index, Term uint64
	Now         lease.Time
	// Stale: the entry was of another epoch or term and changed nothing.
	Stale   bool
	Epoch   Epoch         // the current epoch after the entry
	Replies []lease.Reply // one per command
	// Steps is how many of the entry's events there were after each command, if somebody
	// observes.
	Steps []int
	// StateHash is the chain over all entries that had an effect, this one included.
	StateHash [32]byte
}

// Status is what the FSM knows of itself.
type Status struct {
	ClusterID string
	Epoch     Epoch
	// AppliedIndex and AppliedTerm are of the last entry that had an effect; entries of a
	// deposed leader and raft's own entries do not count.
	AppliedIndex, AppliedTerm uint64
	// StateHash is equal on all nodes that stand at one AppliedIndex.
	StateHash [32]byte
	Now       lease.Time
	Calendar  lease.Calendar
	// LogVersion is what the log may hold; every member has said that it understands it.
	LogVersion uint32
	// Recoveries is how often the cluster was recovered from the loss of its majority, or
	// taken over by a new one from a backup, and Lineage names the last time. What was written
	// before is of another cluster.
	Recoveries uint64
	Lineage    string
}

// Options of an FSM; the zero value serves.
type Options struct {
	// Fatal is called when an entry or snapshot cannot be trusted. It should not return:
	// a node that goes on would be another replica. The default panics.
	Fatal func(error)
	// Observe, if set, is called after every entry with the lock held: the simulator
	// checks the invariants there. The next entry is read into the memory of e: nothing of
	// it may be kept. The events are the observer's.
	Observe func(l *raft.Log, e *logv1.Entry, o Outcome, b *lease.Book, events []lease.Event)
	// Step, if set, is called after every command of an entry, before the next one, with the
	// lock held: what one command does can be judged there, and what several do in one entry
	// cannot be told apart afterwards. Nothing of pb may be kept.
	Step func(l *raft.Log, pb *logv1.Command, r lease.Reply, b *lease.Book, events []lease.Event)
	// Restored, if set, is called after the state was replaced by a snapshot, with the
	// lock held.
	Restored func(s Status, b *lease.Book)
	// Persisting, if set, is called before a snapshot is written out, without the lock: once
	// it counts, the entries up to it are not applied again after a restart.
	Persisting func(s Status)
	// Understands is the highest log version that this state machine takes; 0 means
	// LatestVersion. Tests make older nodes with it.
	Understands uint32
}

// FSM is the replicated state machine. It is safe for concurrent use.
type FSM struct {
	opts Options

	mu       sync.RWMutex
	status   Status // Now and Calendar are the book's
	book     *lease.Book
	version  atomic.Uint32 // status.LogVersion, to be asked without the lock
	events   ring
	stage    stage // of a backup that is being restored
	tokens   atomic.Pointer[access.Table]
	today    atomic.Int64  // the book's calendar, for tokens
	replaced []lease.Event // taken earlier in this entry, also of a ledger that a restore replaced
	told     int           // of replaced: how many Step was told of
	unsaved  atomic.Int64

	// Memory that the next entry uses again.
	heartbeats []lease.Heartbeat // at most lease.MaxRenewMany
	chained    []byte            // at most keptChain
}

// keptChain is how much memory is kept for what is hashed of an entry's replies: more than
// twice what the 13,000 of an entry full of renewals have.
const keptChain = 256 << 10

// New returns an empty state machine.
func New(opts Options) *FSM {
	if opts.Fatal == nil {
		opts.Fatal = func(err error) { panic(err) }
	}
	if opts.Understands == 0 {
		opts.Understands = LatestVersion
	}
	f := &FSM{opts: opts, book: lease.NewBook(), events: newRing()}
	f.setVersion(FirstVersion)
	return f
}

// Apply carries out one log entry; raft calls it in log order.
func (f *FSM) Apply(l *raft.Log) any {
	e := logv1.EntryFromVTPool()
	defer e.ReturnToVTPool()
	if err := decode(l.Data, e); err != nil {
		f.opts.Fatal(fmt.Errorf("log index %d: %w", l.Index, err))
		return Outcome{Index: l.Index, Term: l.Term, Stale: true}
	}
	f.unsaved.Add(int64(len(l.Data)))
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.apply(l, e)
	if f.opts.Observe != nil {
		f.opts.Observe(l, e, o, f.book, f.events.last)
	}
	return o
}

func (f *FSM) apply(l *raft.Log, e *logv1.Entry) Outcome {
	o := Outcome{Index: l.Index, Term: l.Term}
	f.events.last = nil
	switch {
	case e.Lead != nil:
		f.lead(l, e)
	case e.Epoch != f.status.Epoch.Index && !lease.Broken(lease.GuardEpoch),
		l.Term != f.status.Epoch.Term && !lease.Broken(lease.GuardTerm):
		o.Stale, o.Now, o.Epoch, o.StateHash = true, f.book.Now(), f.status.Epoch, f.status.StateHash
		return o
	default:
		f.book.Advance(stampOf(e), lease.Calendar(e.Calendar))
		o.Replies = make([]lease.Reply, len(e.Commands))
		for i, pb := range e.Commands {
			cmd := commandIn(&f.heartbeats, pb)
			if cmd == nil {
				f.opts.Fatal(fmt.Errorf("log index %d: a command this build does not know; run the version that wrote it, or a later one", l.Index))
				continue
			}
			o.Replies[i] = f.carryOut(l, cmd)
			if f.opts.Observe != nil {
				o.Steps = append(o.Steps, len(f.replaced)+f.book.Happened())
			}
			if f.opts.Step != nil {
				f.step(l, pb, o.Replies[i])
			}
		}
		events := f.book.TakeEvents()
		if len(f.replaced) > 0 {
			events = append(f.replaced, events...)
		}
		f.events.add(events)
		f.replaced, f.told = nil, 0
	}
	f.status.AppliedIndex, f.status.AppliedTerm = l.Index, l.Term
	o.Now, o.Epoch = f.book.Now(), f.status.Epoch
	f.chain(l, o.Replies)
	o.StateHash = f.status.StateHash
	f.today.Store(int64(f.book.Calendar()))
	return o
}

// step tells of one command.
func (f *FSM) step(l *raft.Log, pb *logv1.Command, r lease.Reply) {
	f.replaced = append(f.replaced, f.book.TakeEvents()...)
	f.opts.Step(l, pb, r, f.book, f.replaced[f.told:])
	f.told = len(f.replaced)
}

// lead starts the epoch of a new leader. Time does not move: the new leader counts on
// from the last committed time.
func (f *FSM) lead(l *raft.Log, e *logv1.Entry) {
	f.status.Epoch = Epoch{Index: l.Index, Term: l.Term, Node: e.Lead.Node, APIAddress: e.Lead.ApiAddress}
	if f.status.ClusterID == "" {
		f.status.ClusterID = e.Lead.ClusterId
	}
	f.stage = stage{} // what another leader had begun to restore
	f.book.Advance(f.book.Now(), lease.Calendar(e.Calendar))
}

// chain extends the state hash by the entry and by what came of it, so that replicas
// that read the same log and judged it differently are found out too.
func (f *FSM) chain(l *raft.Log, replies []lease.Reply) {
	h := sha256.New()
	h.Write(f.status.StateHash[:])
	buf := f.chained[:0]
	buf = binary.BigEndian.AppendUint64(buf, l.Index)
	buf = binary.BigEndian.AppendUint64(buf, l.Term)
	buf = binary.BigEndian.AppendUint64(buf, uint64(f.book.Now()))
	for i := range replies {
		buf = appendReply(buf, &replies[i])
	}
	h.Write(l.Data)
	h.Write(buf)
	h.Sum(f.status.StateHash[:0])
	if f.chained = buf; cap(buf) > keptChain {
		f.chained = nil
	}
}

// appendReply encodes what a reply says that another replica must say too.
func appendReply(buf []byte, r *lease.Reply) []byte {
	if r.Refusal != nil {
		buf = append(buf, r.Refusal.Reason...)
	}
	buf = append(buf, byte(len(r.Leases)), byte(len(r.Lost)), byte(len(r.Released)))
	for i := range r.Leases {
		x := &r.Leases[i]
		buf = binary.BigEndian.AppendUint64(buf, uint64(x.ID))
		buf = binary.BigEndian.AppendUint64(buf, uint64(x.Token))
		buf = binary.BigEndian.AppendUint64(buf, uint64(x.Deadline))
		for _, n := range x.Seats {
			buf = binary.AppendUvarint(buf, uint64(n))
		}
	}
	for _, x := range r.Lost {
		buf = binary.BigEndian.AppendUint64(buf, uint64(x.ID))
	}
	for _, x := range r.Released {
		buf = binary.BigEndian.AppendUint64(buf, uint64(x.ID))
	}
	if p := r.Place; p != nil {
		buf = binary.AppendUvarint(buf, p.Ticket)
		buf = binary.AppendUvarint(buf, uint64(p.Position))
	}
	for i := range r.Refused {
		buf = append(append(buf, r.Refused[i].Refusal.Reason...), 0)
	}
	for i := range r.Renewed {
		x := &r.Renewed[i]
		buf = append(append(buf, x.Reason...), 0)
		buf = binary.AppendUvarint(buf, uint64(x.Leases))
		buf = binary.AppendUvarint(buf, uint64(x.Remaining))
	}
	return appendLent(buf, r.Lent)
}

// Read calls fn with the ledger as it is; fn must not change or keep it.
func (f *FSM) Read(fn func(b *lease.Book)) Status {
	f.mu.RLock()
	defer f.mu.RUnlock()
	fn(f.book)
	return f.statusLocked()
}

// Status says where the FSM stands.
func (f *FSM) Status() Status {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.statusLocked()
}

func (f *FSM) statusLocked() Status {
	s := f.status
	s.Now, s.Calendar = f.book.Now(), f.book.Calendar()
	return s
}

// Due returns up to limit expirations whose time has come, for the leader to propose.
// It puts the due index in order as it goes, which no answer ever depends on, and lets
// entries be applied in between.
func (f *FSM) Due(limit int) []lease.Command {
	for {
		f.mu.Lock()
		due, done := f.book.DueStep(limit)
		f.mu.Unlock()
		if done {
			return due
		}
	}
}

// Unsaved returns how many bytes of entries were applied since the state was last taken for
// a snapshot or restored from one: what a restart would replay.
func (f *FSM) Unsaved() int64 { return f.unsaved.Load() }

// Snapshot freezes the state; writing it out happens beside later applies.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsaved.Store(0)
	return &snapshot{status: f.statusLocked(), frozen: f.book.Freeze(), stage: f.stage, tokens: f.tokens.Load(), persisting: f.opts.Persisting}, nil
}

// Restore replaces the state by a snapshot. The old state stays whole if that fails. One
// of a later version ends the process: raft would send it for ever.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	status, book, staged, tokens, err := readSnapshot(r, f.opts.Understands)
	if newer := (*NewerError)(nil); errors.As(err, &newer) {
		f.opts.Fatal(err)
	}
	if err != nil {
		return fmt.Errorf("snapshot not restored: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsaved.Store(0)
	f.status, f.book, f.stage = status, book, staged
	f.setVersion(status.LogVersion)
	f.tokens.Store(tokens)
	f.today.Store(int64(book.Calendar()))
	f.events.gap()
	if f.opts.Restored != nil {
		f.opts.Restored(f.statusLocked(), book)
	}
	return nil
}
