package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// fakeRaft holds entries until the test answers them.
type fakeRaft struct {
	takes   time.Duration // to answer an entry by itself; 0: the test does
	mu      sync.Mutex
	entries []*fakeFuture
}

type fakeFuture struct {
	commands int
	at       time.Time // handed over
	stamp    lease.Time
	done     chan struct{}
	err      error
	out      any
}

func (f *fakeFuture) Error() error  { <-f.done; return f.err }
func (f *fakeFuture) Response() any { return f.out }
func (f *fakeFuture) Index() uint64 { return 0 }

func (f *fakeFuture) fail(err error) { f.err = err; close(f.done) }
func (f *fakeFuture) succeed(index uint64) {
	out := fsm.Outcome{Index: index, Term: 3, Now: f.stamp}
	for i := range f.commands {
		out.Replies = append(out.Replies, lease.Reply{Session: lease.SessionInfo{Incarnation: uint64(i + 1)}})
	}
	f.out = out
	close(f.done)
}

func (r *fakeRaft) Apply(entry []byte, _ time.Duration) raft.ApplyFuture {
	e, err := fsm.Decode(entry)
	if err != nil {
		panic(err)
	}
	f := &fakeFuture{commands: len(e.Commands), at: time.Now(), stamp: lease.Time(e.Stamp), done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, f)
	if index := uint64(len(r.entries)); r.takes > 0 {
		time.AfterFunc(r.takes, func() { f.succeed(index) })
	}
	return f
}

func (r *fakeRaft) answerAfter(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes = d
}

func (r *fakeRaft) sent() []*fakeFuture {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*fakeFuture(nil), r.entries...)
}

// proposing runs a proposer in a bubble; stop ends its epoch.
func proposing(t *testing.T, maxQueue int, test func(t *testing.T, p *proposer, r *fakeRaft, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newMetrics(nil)
		r, began := &fakeRaft{}, time.Now()
		var waiting waiters
		var tasks sync.WaitGroup
		p := &proposer{
			epoch: fsm.Epoch{Index: 7, Term: 3}, raft: r, queue: newQueue(maxQueue),
			clocks: Clocks{Mono: func() time.Duration { return time.Since(began) }, Wall: time.Now},
			slots:  make(chan struct{}, DefaultEntriesInFlight), waiters: &waiting, version: func() uint32 { return fsm.LatestVersion },
			progress: &progress{}, metrics: m, warn: func(msg string, args ...any) { t.Log(append([]any{msg}, args...)...) },
		}
		ctx, cancel := context.WithCancel(t.Context())
		tasks.Go(func() { p.run(ctx) })
		stop := func() { cancel(); tasks.Wait() }
		test(t, p, r, stop)
		stop()
		for _, f := range r.sent() {
			select {
			case <-f.done:
			default:
				f.fail(raft.ErrLeadershipLost)
			}
		}
		<-waiting.Idle()
	})
}

type answer struct {
	applied Applied
	err     error
}

// ask proposes n ticks at once and returns where their answers will come.
func ask(ctx context.Context, p *proposer, n int) chan answer {
	answers := make(chan answer, n)
	for range n {
		go func() {
			a, err := p.propose(ctx, lease.Tick{})
			answers <- answer{a, err}
		}()
	}
	synctest.Wait()
	return answers
}

func TestProposerGathersWhileEntriesAreInFlight(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		first := ask(t.Context(), p, 1)
		second := ask(t.Context(), p, 1)
		rest := ask(t.Context(), p, fsm.MaxBatch+10)
		if n := len(r.sent()); n != DefaultEntriesInFlight {
			t.Fatalf("%d entries in flight, want %d", n, DefaultEntriesInFlight)
		}
		r.sent()[0].succeed(10)
		synctest.Wait()
		r.sent()[1].succeed(11)
		synctest.Wait()
		r.sent()[2].succeed(12)
		time.Sleep(maxRally)
		synctest.Wait()
		entries := r.sent()
		if len(entries) != 4 || entries[2].commands != fsm.MaxBatch || entries[3].commands != 10 {
			t.Fatalf("%d entries, want the rest in two of %d and 10", len(entries), fsm.MaxBatch)
		}
		entries[3].succeed(13)
		if a := <-first; a.err != nil || a.applied.Index != 10 || a.applied.Term != 3 {
			t.Errorf("first: %+v", a)
		}
		if a := <-second; a.err != nil || a.applied.Index != 11 {
			t.Errorf("second: %+v", a)
		}
		seen := make(map[string]bool) // everybody has the answer of a place of his own
		for range fsm.MaxBatch + 10 {
			a := <-rest
			if a.err != nil {
				t.Fatal(a.err)
			}
			seen[fmt.Sprint(a.applied.Index, a.applied.Reply.Session.Incarnation)] = true
		}
		if len(seen) != fsm.MaxBatch+10 {
			t.Errorf("%d different answers, want %d", len(seen), fsm.MaxBatch+10)
		}
	})
}

// A small entry beside a large one costs more than its commands win by it; but nothing waits
// when nothing is in flight, and as many as are in flight go at once.
func TestFewCommandsWaitForTheManyInFlight(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		sizes := func(want ...int) {
			t.Helper()
			synctest.Wait()
			var got []int
			for _, f := range r.sent() {
				got = append(got, f.commands)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("entries of %v commands, want %v", got, want)
			}
		}
		ask(t.Context(), p, 1)
		ask(t.Context(), p, 1)
		ask(t.Context(), p, 4)
		sizes(1, 1)
		r.sent()[0].succeed(10)
		r.sent()[1].succeed(11)
		sizes(1, 1, 4)
		ask(t.Context(), p, 3)
		sizes(1, 1, 4)
		ask(t.Context(), p, 1)
		sizes(1, 1, 4, 4)
		ask(t.Context(), p, 1)
		r.sent()[2].succeed(12)
		sizes(1, 1, 4, 4)
		r.sent()[3].succeed(13)
		sizes(1, 1, 4, 4, 1)
	})
}

func TestProposerKeepsEntriesBelowTheByteLimit(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		big := lease.InstallLicence{Licence: lease.Licence{ID: "x", Text: make([]byte, fsm.MaxEntryBytes/3)}}
		answers := make(chan error, 8)
		for range 8 {
			go func() { _, err := p.propose(t.Context(), big); answers <- err }()
		}
		for done, index := 0, uint64(1); done < 8; index++ {
			synctest.Wait()
			f := r.sent()[index-1]
			if f.commands > 2 {
				t.Errorf("entry of %d commands of a third of an entry each", f.commands)
			}
			f.succeed(index)
			done += f.commands
		}
		for range 8 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		big.Licence.Text = make([]byte, fsm.MaxEntryBytes)
		if _, err := p.propose(t.Context(), big); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a command larger than an entry: %v", err)
		}
	})
}

func TestProposeOutcomes(t *testing.T) {
	boom := errors.New("input/output error")
	for _, tc := range []struct {
		name   string
		answer func(f *fakeFuture)
		want   error
	}{
		{"applied", func(f *fakeFuture) { f.succeed(9) }, nil},
		{"never led", func(f *fakeFuture) { f.fail(raft.ErrNotLeader) }, errEpochOver},
		{"not enqueued", func(f *fakeFuture) { f.fail(raft.ErrEnqueueTimeout) }, ErrNotApplied},
		{"leadership on its way", func(f *fakeFuture) { f.fail(raft.ErrLeadershipTransferInProgress) }, ErrNotApplied},
		{"stale epoch", func(f *fakeFuture) { f.out = fsm.Outcome{Stale: true}; close(f.done) }, ErrNotApplied},
		{"leadership lost", func(f *fakeFuture) { f.fail(raft.ErrLeadershipLost) }, ErrUnknown},
		{"shut down", func(f *fakeFuture) { f.fail(raft.ErrRaftShutdown) }, ErrUnknown},
		{"aborted by a restore", func(f *fakeFuture) { f.fail(raft.ErrAbortedByRestore) }, ErrUnknown},
		{"disk error", func(f *fakeFuture) { f.fail(boom) }, ErrUnknown},
		{"strange response", func(f *fakeFuture) { f.out = boom; close(f.done) }, ErrUnknown},
		{"answers missing", func(f *fakeFuture) { f.out = fsm.Outcome{}; close(f.done) }, ErrUnknown},
		{"no answer in time", func(*fakeFuture) {}, ErrUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proposing(t, 10, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				answers := ask(ctx, p, 1)
				tc.answer(r.sent()[0])
				if a := <-answers; !errors.Is(a.err, tc.want) {
					t.Errorf("got %v, want %v", a.err, tc.want)
				}
			})
		})
	}
}

func TestCommandGivenUpBeforeItWasEncodedIsTakenOut(t *testing.T) {
	proposing(t, 2, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		ask(t.Context(), p, 1)
		ask(t.Context(), p, 1) // both slots are taken now
		ctx, cancel := context.WithCancel(t.Context())
		waiting := ask(ctx, p, 2)
		if _, err := p.propose(t.Context(), lease.Tick{}); !errors.Is(err, ErrOverloaded) {
			t.Errorf("queue full: %v", err)
		}
		cancel()
		for range 2 {
			if a := <-waiting; !errors.Is(a.err, ErrNotApplied) || !errors.Is(a.err, context.Canceled) {
				t.Errorf("given up in the queue: %v", a.err)
			}
		}
		late := ask(t.Context(), p, 1) // there is room again
		for _, f := range r.sent() {
			f.succeed(1)
		}
		synctest.Wait()
		if entries := r.sent(); len(entries) != 3 || entries[2].commands != 1 {
			t.Errorf("%d entries: what was given up must not be among them", len(entries))
		}
		r.sent()[2].succeed(2)
		if a := <-late; a.err != nil {
			t.Error(a.err)
		}
	})
}

func TestEndOfEpochAnswersTheQueueAndLeavesEntriesOpen(t *testing.T) {
	proposing(t, 10, func(t *testing.T, p *proposer, r *fakeRaft, stop func()) {
		inFlight := ask(t.Context(), p, 1)
		second := ask(t.Context(), p, 1)
		queued := ask(t.Context(), p, 3)
		stop()
		for range 3 {
			if a := <-queued; !errors.Is(a.err, errEpochOver) {
				t.Errorf("queued: %v", a.err)
			}
		}
		if a := <-ask(t.Context(), p, 1); !errors.Is(a.err, errEpochOver) {
			t.Errorf("too late: %v", a.err)
		}
		r.sent()[0].succeed(5) // a known outcome is told even now
		r.sent()[1].fail(raft.ErrLeadershipLost)
		if a := <-inFlight; a.err != nil {
			t.Errorf("committed all the same: %v", a.err)
		}
		if a := <-second; !errors.Is(a.err, ErrUnknown) {
			t.Errorf("lost: %v", a.err)
		}
	})
}

func TestOwnCommandsPassAFullQueue(t *testing.T) {
	proposing(t, 1, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		for range 3 {
			ask(t.Context(), p, 1) // two in flight, one waits
		}
		own := make(chan error, 1)
		go func() { own <- p.proposeOwn(t.Context(), []lease.Command{lease.Tick{}, lease.Tick{}}) }()
		synctest.Wait()
		for index := range uint64(3) {
			r.sent()[index].succeed(index)
			synctest.Wait()
		}
		if err := <-own; err != nil {
			t.Error(err)
		}
	})
}

func TestEntriesAreStampedWhenTheyAreEncoded(t *testing.T) {
	proposing(t, 10, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		ask(t.Context(), p, 1)
		ask(t.Context(), p, 1)
		queued := ask(t.Context(), p, 1)
		time.Sleep(2 * time.Second) // in the bubble: the queue waits for a slot
		for _, f := range r.sent() {
			f.succeed(1)
		}
		synctest.Wait()
		last := r.sent()[len(r.sent())-1]
		if last.stamp != lease.Time(1996*time.Millisecond) {
			t.Errorf("stamped at %v, want when it was encoded", time.Duration(last.stamp))
		}
		last.succeed(2)
		<-queued
	})
}
