package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// What a command goes through on the leader becomes spans of the call that brought it, if
// that call is traced: waiting for a batch, being committed, being applied. They are told
// once the outcome is known; without a Tracer, or for a call that nobody traces, nothing is
// noted. Followers apply the same entry and say nothing: the log carries no trace.

// traced is a command that belongs to a trace.
type traced struct {
	ctx    context.Context // of the call's span
	queued time.Time
}

// follow notes when a command of a traced call was queued; nil when nobody asks.
func (p *proposer) follow(ctx context.Context) *traced {
	if p.tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return nil
	}
	return &traced{ctx: ctx, queued: time.Now()}
}

// tell makes the spans of the traced commands of an entry that was handed over at start.
func (p *proposer) tell(batch []*call, start time.Time, bytes int, out fsm.Outcome, err error) {
	if p.tracer == nil {
		return
	}
	end := time.Now()
	for _, c := range batch {
		t := c.to.traced
		if t == nil {
			continue
		}
		p.span(t, "seatkeeper.batch", t.queued, start, nil)
		of := []attribute.KeyValue{attribute.Int("seatkeeper.entry.commands", len(batch)), attribute.Int("seatkeeper.entry.bytes", bytes)}
		applied, known := p.applies.of(out.Index)
		if err != nil || !known {
			p.span(t, "raft.commit", start, end, err, of...)
			continue
		}
		of = append(of, attribute.Int64("raft.index", int64(out.Index)), attribute.Int64("raft.term", int64(out.Term)))
		p.span(t, "raft.commit", start, applied.began, nil, of...)
		p.span(t, "fsm.apply", applied.began, applied.ended, nil)
	}
}

func (p *proposer) span(t *traced, name string, from, to time.Time, err error, of ...attribute.KeyValue) {
	_, s := p.tracer.Start(t.ctx, name, trace.WithTimestamp(from), trace.WithAttributes(of...))
	if err != nil {
		s.SetStatus(codes.Error, outcomeName(err))
	}
	s.End(trace.WithTimestamp(to))
}

// outcomeName says what kind of outcome an error is; its text may name more than a trace
// should hold.
func outcomeName(err error) string {
	switch {
	case errors.Is(err, ErrNotApplied), errors.Is(err, errEpochOver):
		return "not applied"
	case errors.Is(err, ErrUnknown):
		return "unknown outcome"
	}
	return "error"
}

// appliesKept is how many entries' times are kept: more than can be on their way to an
// answer, of which there are two by default.
const appliesKept = 64

// applies remembers when the newest entries were applied.
type applies struct {
	mu   sync.Mutex
	last [appliesKept]applySpan
}

type applySpan struct {
	index        uint64
	began, ended time.Time
}

func (a *applies) of(index uint64) (applySpan, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.last[index%appliesKept]
	return s, index != 0 && s.index == index
}

// timedFSM notes when entries are applied. The state machine itself knows no clock.
type timedFSM struct {
	*fsm.FSM
	applies *applies
}

// Apply implements raft.FSM.
func (f *timedFSM) Apply(l *raft.Log) any {
	began := time.Now()
	out := f.FSM.Apply(l)
	ended := time.Now()
	f.applies.mu.Lock()
	defer f.applies.mu.Unlock()
	f.applies.last[l.Index%appliesKept] = applySpan{l.Index, began, ended}
	return out
}

// machine is what raft applies entries to.
func (n *Node) machine() raft.FSM {
	if n.cfg.Tracer == nil {
		return &settledFSM{n.fsm, n.own}
	}
	return &settledFSM{&timedFSM{n.fsm, &n.applies}, n.own}
}
