package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// fakeChecker answers leader checks when the test says so.
type fakeChecker struct {
	mu     sync.Mutex
	term   uint64
	checks []chan error
}

type errFuture chan error

func (f errFuture) Error() error { return <-f }

func (c *fakeChecker) VerifyLeader() raft.Future {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := make(chan error, 1)
	c.checks = append(c.checks, f)
	return errFuture(f)
}

func (c *fakeChecker) CurrentTerm() uint64 { return c.term }

func (c *fakeChecker) begun() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.checks)
}

// verifying runs a verifier in a bubble. confirmed says what the voters' answers prove.
func verifying(t *testing.T, confirmed func(mark uint64) bool, test func(t *testing.T, v *verifier, c *fakeChecker)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var waiting waiters
		c := &fakeChecker{term: 4}
		v := &verifier{term: 4, ctx: ctx, raft: c, waiters: &waiting, count: func() {},
			mark: func() uint64 { return 0 }, confirmed: confirmed}
		test(t, v, c)
		cancel()
		for _, f := range c.checks {
			select {
			case f <- raft.ErrLeadershipLost:
			default:
			}
		}
		<-waiting.Idle()
	})
}

func verifyAll(ctx context.Context, v *verifier, n int) chan error {
	errs := make(chan error, n)
	for range n {
		go func() { errs <- v.verify(ctx) }()
	}
	synctest.Wait()
	return errs
}

func yes(uint64) bool { return true }

func TestReadersShareTheCheckThatStartsAfterThem(t *testing.T) {
	verifying(t, yes, func(t *testing.T, v *verifier, c *fakeChecker) {
		first := verifyAll(t.Context(), v, 1)
		late := verifyAll(t.Context(), v, 100)
		if n := c.begun(); n != 1 {
			t.Fatalf("%d checks begun, want 1", n)
		}
		c.checks[0] <- nil
		synctest.Wait()
		if err := <-first; err != nil {
			t.Error(err)
		}
		if len(late) != 0 {
			t.Fatalf("%d late readers were answered by a check that began before them", len(late))
		}
		if n := c.begun(); n != 2 {
			t.Fatalf("%d checks begun, want 2 for all", n)
		}
		c.checks[1] <- nil
		for range 100 {
			if err := <-late; err != nil {
				t.Error(err)
			}
		}
		if c.begun() != 2 {
			t.Errorf("%d checks for 101 readers, want 2", c.begun())
		}
	})
}

func TestReadOutcomes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer error
		term   uint64
		want   error
	}{
		{"still leader", nil, 4, nil},
		{"deposed", raft.ErrNotLeader, 4, errEpochOver},
		{"lost meanwhile", raft.ErrLeadershipLost, 4, errEpochOver},
		{"leader again, of a later term", nil, 5, errEpochOver},
		{"shut down", raft.ErrRaftShutdown, 4, ErrUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			verifying(t, yes, func(t *testing.T, v *verifier, c *fakeChecker) {
				c.term = tc.term
				errs := verifyAll(t.Context(), v, 1)
				c.checks[0] <- tc.answer
				if err := <-errs; !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
			})
		})
	}
}

func TestReaderDoesNotWaitPastItsDeadlineForAHungCheck(t *testing.T) {
	verifying(t, yes, func(t *testing.T, v *verifier, _ *fakeChecker) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := <-verifyAll(ctx, v, 1); !errors.Is(err, ErrUnknown) {
			t.Errorf("got %v, want %v", err, ErrUnknown)
		}
	})
}

func TestCheckIsRepeatedUntilVotersHaveAnsweredIt(t *testing.T) {
	answered := false
	verifying(t, func(uint64) bool { return answered }, func(t *testing.T, v *verifier, c *fakeChecker) {
		errs := verifyAll(t.Context(), v, 1)
		c.checks[0] <- nil // raft is content with the answer of a non-voter
		synctest.Wait()
		if len(errs) != 0 {
			t.Fatal("answered without a majority of voters")
		}
		answered = true
		time.Sleep(verifyRetry)
		synctest.Wait()
		c.checks[1] <- nil
		if err := <-errs; err != nil {
			t.Error(err)
		}
	})
}

func TestAcknowledgementsCountForWhatTheyProve(t *testing.T) {
	var a acks
	req := func(term, prev uint64, entries ...uint64) *raft.AppendEntriesRequest {
		r := &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev}
		for _, i := range entries {
			r.Entries = append(r.Entries, &raft.Log{Index: i})
		}
		return r
	}
	old := a.next()
	mark := a.mark()
	a.record("b", old, req(4, 10, 11, 12))
	if a.since("b", 4, mark) {
		t.Error("an answer to an earlier request proves nothing about now")
	}
	if a.index("b", 4) != 12 || a.index("b", 5) != 0 {
		t.Errorf("index %d in term 4, %d in term 5", a.index("b", 4), a.index("b", 5))
	}
	a.record("b", a.next(), req(4, 0)) // a heartbeat names no entry
	if !a.since("b", 4, mark) || a.since("b", 5, mark) || a.since("c", 4, mark) {
		t.Error("an answer counts for its sender and its term")
	}
	if a.index("b", 4) != 12 {
		t.Error("a heartbeat took the index back")
	}
	a.record("b", a.next(), req(6, 8))
	a.record("b", old, req(4, 20))
	if a.index("b", 6) != 8 || a.index("b", 4) != 0 {
		t.Error("a new leader's log starts from nothing, and an old answer does not change that")
	}
}
