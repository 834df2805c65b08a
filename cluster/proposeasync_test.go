package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

func ticks(n int) []lease.Command {
	out := make([]lease.Command, n)
	for i := range out {
		out[i] = lease.Tick{}
	}
	return out
}

// proposeMany waits for what proposeAsync tells, or gives up when ctx ends.
func (p *proposer) proposeMany(ctx context.Context, cmds []lease.Command) ([]Proposed, error) {
	answers, left := make([]Proposed, len(cmds)), len(cmds)
	told := make(chan int, len(cmds))
	giveUp, err := p.proposeAsync(cmds, func(lease.Command) error { return nil }, func(first int, list []Proposed) {
		copy(answers[first:], list)
		told <- len(list)
	})
	if err != nil {
		return nil, err
	}
	ended := ctx.Done()
	for left > 0 {
		select {
		case n := <-told:
			left -= n
		case <-ended:
			ended = nil
			giveUp(ctx.Err())
		}
	}
	return answers, nil
}

func TestManyCommandsShareEntriesAndKeepTheirOrder(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		done := make(chan []Proposed, 1)
		go func() {
			answers, err := p.proposeMany(t.Context(), ticks(2*fsm.MaxBatch))
			if err != nil {
				t.Error(err)
			}
			done <- answers
		}()
		synctest.Wait()
		if n := len(r.sent()); n != 2 || r.sent()[0].commands != fsm.MaxBatch {
			t.Fatalf("%d entries, want two full ones", n)
		}
		r.sent()[1].fail(raft.ErrLeadershipLost) // each entry has an outcome of its own
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("answered before the first entry was")
		default:
		}
		r.sent()[0].succeed(9)
		for i, a := range <-done {
			switch {
			case i < fsm.MaxBatch && (a.Err != nil || a.Applied.Index != 9 || a.Applied.Reply.Session.Incarnation != uint64(i+1)):
				t.Fatalf("answer %d: %+v", i, a)
			case i >= fsm.MaxBatch && !errors.Is(a.Err, ErrUnknown):
				t.Fatalf("answer %d: %+v, want unknown", i, a)
			}
		}
	})
}

func TestManyCommandsAreQueuedAllOrNone(t *testing.T) {
	proposing(t, 2, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		if _, err := p.proposeMany(t.Context(), ticks(3)); !errors.Is(err, ErrOverloaded) {
			t.Errorf("three into a queue of two: %v", err)
		}
		if n := p.queue.len(); n != 0 {
			t.Errorf("%d of them are queued", n)
		}
		if answers, err := p.proposeMany(t.Context(), nil); err != nil || len(answers) != 0 {
			t.Errorf("none: %v, %v", answers, err)
		}
	})
}

func TestManyCommandsGivenUpSayWhatIsKnownOfEach(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := make(chan []Proposed, 1)
		go func() {
			answers, _ := p.proposeMany(ctx, ticks(3*fsm.MaxBatch))
			done <- answers
		}()
		synctest.Wait()
		r.sent()[0].out, r.sent()[0].err = nil, raft.ErrEnqueueTimeout
		close(r.sent()[0].done)
		synctest.Wait() // the third entry has its slot now
		if n := len(r.sent()); n != 3 {
			t.Fatalf("%d entries, want 3", n)
		}
		time.Sleep(2 * time.Second)
		answers := <-done
		for _, c := range []struct {
			at   int
			want error
		}{{0, ErrNotApplied}, {fsm.MaxBatch, ErrUnknown}, {2 * fsm.MaxBatch, ErrUnknown}} {
			if !errors.Is(answers[c.at].Err, c.want) {
				t.Errorf("answer %d: %v, want %v", c.at, answers[c.at].Err, c.want)
			}
		}
		waiting := make(chan []Proposed, 1)
		late, giveUp := context.WithCancel(t.Context())
		go func() {
			answers, _ := p.proposeMany(late, ticks(2))
			waiting <- answers
		}()
		synctest.Wait()
		giveUp()
		for i, a := range <-waiting {
			if !errors.Is(a.Err, ErrNotApplied) {
				t.Errorf("never taken, answer %d: %v", i, a.Err)
			}
		}
	})
}

// What is refused at once is answered at once, and the others go on.
func TestEachOfManyCommandsIsRefusedByItself(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		full := errors.New("full")
		refuse := func(cmd lease.Command) error {
			if _, asks := cmd.(lease.Checkout); asks {
				return full
			}
			return nil
		}
		got := map[int]Proposed{}
		told := func(first int, list []Proposed) {
			for i, a := range list {
				if _, twice := got[first+i]; twice {
					t.Errorf("command %d is answered twice", first+i)
				}
				got[first+i] = a
			}
		}
		cmds := []lease.Command{lease.Tick{}, lease.Checkout{}, lease.Tick{}}
		giveUp, err := p.proposeAsync(cmds, refuse, told)
		if err != nil || len(got) != 1 || !errors.Is(got[1].Err, full) {
			t.Fatalf("%v, %v", got, err)
		}
		synctest.Wait()
		r.sent()[0].succeed(5)
		synctest.Wait()
		if len(got) != 3 || got[0].Err != nil || got[2].Applied.Index != 5 {
			t.Errorf("%v", got)
		}
		giveUp(context.Canceled) // has nothing more to say
		if _, err := p.proposeAsync(ticks(4001), refuse, told); !errors.Is(err, ErrOverloaded) || len(got) != 3 {
			t.Errorf("a full queue: %v, %v", err, got)
		}
	})
}
