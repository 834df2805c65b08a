package explore

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Config is what is explored.
type Config struct {
	Clients, Seats int
	// Depth is the longest list of steps; MaxStates ends the search before that.
	Depth, MaxStates int
}

// unit is one step of time; a lease lives for two and is in grace for one.
const unit = time.Second

var profile = lease.Profile{Lifespan: 2 * unit, Grace: unit}

// slow is how much a client's clock lags: less than the margin.
const slow = 0.0008

// world is one state: what all sides know. A copy is made by clone before each step.
type world struct {
	cfg   Config
	image []byte // the state machine, as a snapshot
	real  time.Duration
	index uint64
	epoch fsm.Epoch
	last  uint64 // epoch before

	clients []client
	tokens  []lease.Token // L3: last token of each seat, by number
	seen    []seenLease   // what a slow expirer may propose
	effects []effect      // I1: numbered requests that had their effect

	// What led here.
	parent *world
	step   string
	depth  int
}

// client is one session of a client and what is under way for it.
type client struct {
	incarnation, seq uint64
	open             bool // not closed by its own word
	held             []holding
	outbox           []request // newest last
}

type holding struct {
	lease.Ref
	seats  []int
	belief lease.Belief
}

// request is a copy under way; every try of a request is sent at sent.
type request struct {
	cmd  lease.Command
	name string
	sent lease.Instant
}

type seenLease struct {
	lease.Ref
	rev uint64
}

type effect struct {
	client           int
	incarnation, seq uint64
}

// violation is an invariant found broken, with its letter.
type violation struct{ letter, text string }

func (v *violation) Error() string { return v.letter + ": " + v.text }

func broken(letter, format string, args ...any) *violation {
	return &violation{letter, fmt.Sprintf(format, args...)}
}

func sessionID(c int) lease.SessionID { return lease.SessionID{1, byte(c + 1)} }

func clientOf(id lease.SessionID) int { return int(id[1]) - 1 }

func (c *client) ref(n int, seq uint64) lease.SessionRef {
	return lease.SessionRef{ID: sessionID(n), Digest: lease.SecretDigest{byte(n)}, Incarnation: c.incarnation, Seq: seq}
}

func (w *world) clone() *world {
	x := *w
	x.clients = slices.Clone(w.clients)
	for i := range x.clients {
		x.clients[i].held = slices.Clone(x.clients[i].held)
		x.clients[i].outbox = slices.Clone(x.clients[i].outbox)
	}
	x.tokens, x.seen, x.effects = slices.Clone(w.tokens), slices.Clone(w.seen), slices.Clone(w.effects)
	x.parent, x.depth = w, w.depth+1
	return &x
}

// clock is what a client reads.
func (w *world) clock() lease.Instant { return lease.Instant(float64(w.real) * (1 - slow)) }

// machine is the state machine brought back from the snapshot.
type machine struct {
	*fsm.FSM
	book   *lease.Book
	events []lease.Event
	out    fsm.Outcome
}

func (w *world) restore() (*machine, error) {
	m := &machine{}
	m.FSM = fsm.New(fsm.Options{Observe: func(_ *raft.Log, _ *logv1.Entry, o fsm.Outcome, b *lease.Book, ev []lease.Event) {
		m.book, m.events, m.out = b, ev, o
	}})
	if w.image == nil {
		return m, nil
	}
	if err := m.Restore(io.NopCloser(bytes.NewReader(w.image))); err != nil {
		return nil, broken("F3", "a snapshot is not restored: %v", err)
	}
	return m, nil
}

// save keeps the state machine's new state.
func (w *world) save(m *machine) error {
	var buf bytes.Buffer
	if _, err := m.WriteTo(&buf); err != nil {
		return err
	}
	w.image = buf.Bytes()
	return nil
}

// commit applies one entry of the current epoch and checks what it did.
func (w *world) commit(m *machine, stamp lease.Time, cmds ...lease.Command) ([]lease.Reply, error) {
	data, err := fsm.EncodeBatch(w.epoch.Index, stamp, 0, cmds)
	if err != nil {
		return nil, err
	}
	w.index++
	m.Apply(&raft.Log{Index: w.index, Term: w.epoch.Term, Data: data})
	if m.out.Stale {
		return nil, broken("C5", "an entry of the current epoch was taken for a stale one")
	}
	return m.out.Replies, w.judge(m)
}

// elect starts another epoch.
func (w *world) elect(m *machine) error {
	data, err := fsm.EncodeLead(fsm.Lead{Node: "n", ClusterID: "x"}, 0)
	if err != nil {
		return err
	}
	w.index++
	w.last = w.epoch.Index
	before := m.Status().Now
	m.Apply(&raft.Log{Index: w.index, Term: w.epoch.Term + 1, Data: data})
	w.epoch = m.out.Epoch
	if now := m.Status().Now; now != before {
		return broken("C6", "an election moved time from %v to %v", before, now)
	}
	return w.judge(m)
}

// stale hands in an entry of an earlier epoch, or of another term; it must change nothing.
func (w *world) stale(m *machine, epoch, term uint64, stamp lease.Time) error {
	data, err := fsm.EncodeBatch(epoch, stamp, 0, []lease.Command{lease.Tick{}})
	if err != nil {
		return err
	}
	w.index++
	m.Apply(&raft.Log{Index: w.index, Term: term, Data: data})
	before := w.image
	if err := w.save(m); err != nil {
		return err
	}
	if !bytes.Equal(before, w.image) {
		return broken("C5", "an entry of epoch %d, term %d changed the state in epoch %d, term %d", epoch, term, w.epoch.Index, w.epoch.Term)
	}
	return nil
}

// judge checks what must hold after every entry.
func (w *world) judge(m *machine) error {
	if err := m.book.Check(); err != nil {
		return broken("L1", "%v", err)
	}
	for _, p := range m.book.Pools("") {
		if p.InUse > p.Total {
			return broken("L1", "%d of %d seats are charged", p.InUse, p.Total)
		}
	}
	for _, e := range m.events {
		if e.Kind != lease.Granted {
			continue
		}
		leases, _ := m.book.Leases(lease.Filter{}, 0, 100)
		for _, l := range leases {
			if l.ID != e.Lease.ID {
				continue
			}
			for _, n := range l.Seats {
				if l.Token <= w.tokens[n-1] {
					return broken("L3", "seat %d got token %d after %d", n, l.Token, w.tokens[n-1])
				}
				w.tokens[n-1] = l.Token
			}
		}
	}
	return w.save(m)
}

// believers checks L2: of those who believe now, no two believe in one seat.
func (w *world) believers() error {
	now := w.clock()
	owner := map[int]int{}
	for c := range w.clients {
		for i := range w.clients[c].held {
			h := &w.clients[c].held[i]
			if h.belief.State(now) == lease.Gone {
				continue
			}
			for _, n := range h.seats {
				if other, taken := owner[n]; taken {
					return broken("L2", "clients %d and %d both believe in seat %d", other+1, c+1, n)
				}
				owner[n] = c
			}
		}
	}
	return nil
}

// Steps lists how the state was reached.
func (w *world) steps() (list []string) {
	for ; w.parent != nil; w = w.parent {
		list = append(list, w.step)
	}
	slices.Reverse(list)
	return list
}
