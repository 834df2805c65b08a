package rpc

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Limits of a pipeline.
const (
	// pipeWindow is how many calls of one stream are on their way at once: with two
	// milliseconds for a commit one stream then brings 100,000 in a second. What a client
	// sends beyond stays in the flow control of its own connection. A message has no more
	// either.
	pipeWindow = 256
	// pipeSessions bounds the sessions that they renew: eight full batches, 1 MiB.
	pipeSessions = 8 * lease.MaxRenewMany
	// streamedAtOnce bounds the renewals and check-ins of all streams on their way, at half
	// of the proposer's queue. They wait for their turn and are not refused: their clients
	// have asked for nothing new. Checkouts are bounded by admission.
	streamedAtOnce = cluster.DefaultMaxQueue / 2
	// connPipelines bounds the streams of one connection: clients share one stream, and
	// one for each of a connection's usual clients is generous.
	connPipelines = 64
	// answerWeight bounds the leases and sessions in one message of answers: some hundred
	// KiB, far below the 4 MiB that a client takes.
	answerWeight = 4096
)

// pipeTimes are what a pipeline looks at its clock for.
type pipeTimes struct {
	// look is how often a stream is looked at: whether this node leads, whether its reader
	// takes what it is sent, whether a call waits too long.
	look time.Duration
	// idle ends a stream without a request: twice the longest usual heartbeat.
	idle time.Duration
	// unread ends a stream whose client does not read its answers.
	unread time.Duration
}

var defaultPipeTimes = pipeTimes{look: time.Second, idle: 10 * time.Minute, unread: writeTimeout}

// Pipeline serves one stream. The handler watches and brings in what had to wait for room;
// one goroutine receives and proposes, one answers. Both end when the handler returns,
// because that ends the stream.
func (h *seats) Pipeline(stream grpc.BidiStreamingServer[pb.PipelineRequest, pb.PipelineResponse]) error {
	s := h.s
	if !s.cfg.Node.Leading() {
		return &cluster.NotLeaderError{}
	}
	conn := connOf(stream.Context())
	if conn != nil {
		defer conn.pipelines.Add(-1)
		if conn.pipelines.Add(1) > connPipelines {
			return overloaded("this connection has all the streams that it may have")
		}
	}
	defer s.pipelines.Add(-1)
	if s.pipelines.Add(1) > int64(s.cfg.Pipelines) {
		return overloaded("this node has all the streams that it takes")
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	if err := stream.SendHeader(nil); err != nil { // the client may begin
		return err
	}
	p := &pipeline{s: s, conn: conn, ctx: stream.Context(), stream: stream, ended: make(chan error, 2),
		woke: make(chan struct{}, 1), lined: make(map[*piped]struct{})}
	p.space.L, p.work.L = &p.mu, &p.mu
	defer p.close()
	p.touched.Store(time.Now().UnixNano())
	go p.guard(func() error {
		err := p.receive()
		if err == nil {
			p.leave(nil)
			return errSaidAll
		}
		return err
	})
	go p.guard(p.answer)
	return p.watch()
}

// pipeline is one stream of calls.
type pipeline struct {
	s      *Server
	conn   *connAddr // nil in tests
	ctx    context.Context
	stream grpc.BidiStreamingServer[pb.PipelineRequest, pb.PipelineResponse]
	ended  chan error    // why a goroutine has ended; nil: all is answered
	woke   chan struct{} // holds one token when awake has something

	touched atomic.Int64 // when the last request came
	sending atomic.Int64 // since when an answer is being sent; 0: none is

	mu          sync.Mutex // held for moments only: neither admission nor proposer is called under it
	space, work sync.Cond
	open        int                 // calls taken in, not answered yet
	sessions    int                 // in them
	ready       []*piped            // known, to be answered
	lined       map[*piped]struct{} // held, or waiting for room
	awake       []*piped            // of these: something has happened
	sent        []*proposal         // oldest first
	drained     bool                // the client has said all
	over        error               // no more calls are taken; the stream ends when all are answered
	closed      bool                // the stream has ended
}

// errSaidAll ends the receiver alone.
var errSaidAll = errors.New("the client has said all")

// guard runs one of the two goroutines and keeps a bug in it from ending the node.
func (p *pipeline) guard(run func() error) {
	defer func() {
		if bug := recover(); bug != nil {
			p.ended <- p.s.bug("Pipeline", bug, debug.Stack())
		}
	}()
	p.ended <- run()
}

// watch returns when the stream is over, and why.
func (p *pipeline) watch() error {
	look := time.NewTicker(p.s.pipes.look)
	defer look.Stop()
	stopping := p.s.stopping
	for {
		select {
		case err := <-p.ended:
			if err != errSaidAll {
				return err
			}
		case <-p.woke:
			p.letIn()
		case <-stopping:
			stopping = nil
			p.leave(cluster.ErrStopped)
		case <-p.ctx.Done():
			return p.ctx.Err()
		case now := <-look.C:
			if end, err := p.look(now); end {
				return err
			}
		}
	}
}

// look is what happens once a second.
func (p *pipeline) look(now time.Time) (end bool, err error) {
	since := p.sending.Load()
	switch {
	case since != 0 && now.Sub(time.Unix(0, since)) > p.s.pipes.unread:
		p.s.metrics.slowStreams.Inc()
		return true, &lease.Refusal{Reason: UnknownOutcome, Message: "the answers of this stream are not read"}
	case now.Sub(time.Unix(0, p.touched.Load())) > p.s.pipes.idle:
		p.leave(nil)
	case !p.s.cfg.Node.Leading():
		if p.leave(&cluster.NotLeaderError{}) {
			return true, &cluster.NotLeaderError{} // what it has no answer for after a look will have none
		}
	}
	p.giveUp(context.DeadlineExceeded, now.Add(-p.s.cfg.RequestTimeout))
	return false, nil
}

// leave takes no more calls and ends the stream when all are answered. It says whether
// the stream was to end already.
func (p *pipeline) leave(err error) (already bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if already = p.drained || p.over != nil; p.over == nil {
		p.over = err
	}
	p.drained = true
	p.work.Signal()
	return already
}

// close lets go of all that is on its way: nobody hears of it any more.
func (p *pipeline) close() {
	p.mu.Lock()
	p.closed = true
	p.space.Broadcast()
	p.work.Broadcast()
	waiting := p.lined
	p.lined = nil
	p.s.metrics.inFlight.Sub(float64(p.open))
	p.mu.Unlock()
	for x := range waiting {
		x.way.abandon()
		p.release(x)
	}
	p.giveUp(context.Canceled, time.Now())
}

// receive takes calls in while there is room in the window, and proposes those of a
// message together.
func (p *pipeline) receive() error {
	r := &pb.PipelineRequest{} // each is read into the same memory: its commands have copies
	for {
		r.ResetVT()
		err := p.stream.RecvMsg(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		p.touched.Store(now.UnixNano())
		if n := len(r.GetCalls()); n == 0 || n > pipeWindow {
			return invalid("a message has 1 to 256 calls")
		}
		if !p.take(r.GetCalls(), now) {
			return nil
		}
	}
}

// take brings the calls of one message on their way; false: the stream is over.
func (p *pipeline) take(calls []*pb.PipelineCall, now time.Time) bool {
	list := make([]piped, len(calls))
	var b bundle
	for i, c := range calls {
		x := &list[i]
		x.began = now
		x.read(p, c)
		if !p.room(x, false) {
			b = p.flush(b)
			if !p.room(x, true) {
				return false
			}
		}
		switch {
		case x.err != nil:
			b.known = append(b.known, x)
		case x.what == callCheckout:
			p.ask(x, &b)
		default:
			b.keep = append(b.keep, x)
		}
	}
	p.flush(b)
	return true
}

// room counts a call into the window, waiting for room if wait says so.
func (p *pipeline) room(x *piped, wait bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && (p.open >= pipeWindow || p.sessions > 0 && p.sessions+x.size > pipeSessions) {
		if !wait {
			return false
		}
		p.space.Wait()
	}
	if p.closed {
		return false
	}
	p.open++
	p.sessions += x.size
	p.s.metrics.inFlight.Inc()
	if p.over != nil && x.err == nil {
		x.err = p.over
	}
	return true
}

// answer sends what is known, all of it together, until nothing more can come.
func (p *pipeline) answer() error {
	r := &pb.PipelineResponse{} // each is written from the same memory
	for {
		list, over := p.known()
		if list == nil {
			return over
		}
		for rest := list; len(rest) > 0; {
			n, lost := p.response(r, rest)
			p.sending.Store(time.Now().UnixNano())
			err := p.stream.Send(r)
			p.sending.Store(0)
			if err != nil {
				return err
			}
			r.ResetVT()
			if lost != nil {
				p.leave(lost)
			}
			p.answered(rest[:n])
			rest = rest[n:]
		}
	}
}

// known waits for calls that can be answered; nil is the end.
func (p *pipeline) known() ([]*piped, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && len(p.ready) == 0 && !(p.drained && p.open == 0) {
		p.work.Wait()
	}
	if p.closed || len(p.ready) == 0 {
		return nil, p.over
	}
	list := p.ready
	p.ready = nil
	return list, nil
}

func (p *pipeline) answered(list []*piped) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.open -= len(list)
	for _, x := range list {
		p.sessions -= x.size
	}
	p.s.metrics.inFlight.Sub(float64(len(list)))
	p.space.Signal()
}

// response fills an empty message from a list and says how many of it are in there. lost is
// not nil when one of them tells that leadership is lost.
func (p *pipeline) response(r *pb.PipelineResponse, list []*piped) (n int, lost error) {
	r.Answers = slices.Grow(r.Answers, len(list))
	for weight := 0; n < len(list) && weight < answerWeight; n++ {
		var a *pb.PipelineAnswer
		r.Answers, a = more(r.Answers)
		x := list[n]
		x.answer(p.s, a)
		if a.NotLeader != nil {
			lost = &cluster.NotLeaderError{}
		}
		weight += 1 + len(x.applied.Reply.Leases) + len(x.applied.Reply.Lost) + len(x.applied.Reply.Renewed)
	}
	return n, lost
}
