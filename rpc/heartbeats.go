package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Limits of a stream of heartbeats.
const (
	// streamWindow is how many requests of one stream are on their way at once: with two
	// milliseconds for a commit one stream then brings 100,000 in a second. What a client
	// sends beyond stays in the flow control of its own connection.
	streamWindow = 256
	// streamSessions bounds the sessions in them: eight full batches, 1 MiB.
	streamSessions = 8 * lease.MaxRenewMany
	// streamedAtOnce bounds the commands of all streams on their way, at half of the
	// proposer's queue. Streams wait for their turn and are not refused: their clients
	// have asked for nothing new.
	streamedAtOnce = cluster.DefaultMaxQueue / 2
	// streamIdle ends a stream without a request: twice the longest usual heartbeat.
	streamIdle = 10 * time.Minute
	// streamLook is how often a stream is looked at: whether this node leads, whether its
	// reader takes what it is sent.
	streamLook = time.Second
)

// RenewBatch renews many sessions by one command.
func (h *seats) RenewBatch(ctx context.Context, r *pb.RenewBatchRequest) (*pb.RenewBatchResponse, error) {
	cmd, err := renewManyOf(r)
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	h.s.metrics.renewed.Add(float64(len(cmd.Sessions)))
	return renewBatchPB(applied), nil
}

func renewManyOf(r *pb.RenewBatchRequest) (cmd lease.RenewMany, err error) {
	const idLen = len(lease.SessionID{})
	ids, secrets, incarnations := r.GetSessionIds(), r.GetSessionSecrets(), r.GetIncarnations()
	n := len(ids) / idLen
	switch {
	case n == 0 || len(ids)%idLen != 0:
		return cmd, invalid(fmt.Sprintf("session_ids has %d bytes: want %d for each session", len(ids), idLen))
	case n > lease.MaxRenewMany:
		return cmd, invalid(fmt.Sprintf("%d sessions, at most %d are allowed", n, lease.MaxRenewMany))
	case len(secrets) == 0 || len(secrets)%n != 0:
		return cmd, invalid(fmt.Sprintf("session_secrets has %d bytes: want secrets of one length for %d sessions", len(secrets), n))
	case len(secrets)/n > maxSecret:
		return cmd, invalid(fmt.Sprintf("session secrets are %d bytes long, at most %d are allowed", len(secrets)/n, maxSecret))
	case len(incarnations) != 0 && len(incarnations) != n:
		return cmd, invalid(fmt.Sprintf("%d incarnations for %d sessions", len(incarnations), n))
	}
	width := len(secrets) / n
	cmd.Sessions = make([]lease.Heartbeat, n)
	for i := range cmd.Sessions {
		s := &cmd.Sessions[i]
		copy(s.ID[:], ids[i*idLen:])
		s.Digest = digest(secrets[i*width : (i+1)*width])
		if len(incarnations) > 0 {
			s.Incarnation = incarnations[i]
		}
	}
	return cmd, nil
}

func renewBatchPB(a cluster.Applied) *pb.RenewBatchResponse {
	n := len(a.Reply.Renewed)
	out := &pb.RenewBatchResponse{Results: make([]pb.RenewResult, n), RemainingMs: make([]uint32, n), GraceMs: make([]uint32, n),
		RaftIndex: a.Index, Term: a.Term}
	for i := range a.Reply.Renewed {
		r := &a.Reply.Renewed[i]
		out.Results[i] = renewResult(r)
		out.RemainingMs[i], out.GraceMs[i] = millis(r.Remaining), millis(r.Grace)
	}
	return out
}

func renewResult(r *lease.Renewed) pb.RenewResult {
	switch {
	case r.Reason == "" && r.News:
		return pb.RenewResult_RENEW_RESULT_RENEWED_WITH_NEWS
	case r.Reason == "":
		return pb.RenewResult_RENEW_RESULT_RENEWED
	case r.Reason == lease.Forbidden:
		return pb.RenewResult_RENEW_RESULT_FORBIDDEN
	case r.Reason == lease.Fenced:
		return pb.RenewResult_RENEW_RESULT_FENCED
	}
	return pb.RenewResult_RENEW_RESULT_SESSION_UNKNOWN
}

// Heartbeats serves one stream. The handler only watches; one goroutine receives, one
// proposes and answers. Both end when the handler returns, because that ends the stream.
func (h *seats) Heartbeats(stream grpc.BidiStreamingServer[pb.HeartbeatsRequest, pb.HeartbeatsResponse]) error {
	s := h.s
	if !s.cfg.Node.Leading() {
		return &cluster.NotLeaderError{}
	}
	if n := s.streams.Add(1); n > int64(s.cfg.Streams) {
		s.streams.Add(-1)
		return overloaded("this node has all the heartbeat streams that it takes")
	}
	s.metrics.streams.Inc()
	defer func() { s.streams.Add(-1); s.metrics.streams.Dec() }()
	b := &beats{s: s, ctx: stream.Context(), stream: stream, ended: make(chan error, 2)}
	b.space.L, b.work.L = &b.mu, &b.mu
	defer b.close()
	b.touched.Store(time.Now().UnixNano())
	go b.guard(b.receive)
	go b.guard(b.answer)
	return b.watch()
}

// beats is one stream of heartbeats.
type beats struct {
	s      *Server
	ctx    context.Context
	stream grpc.BidiStreamingServer[pb.HeartbeatsRequest, pb.HeartbeatsResponse]
	ended  chan error // why; nil is a client that has said all

	touched atomic.Int64 // when the last request came
	sending atomic.Int64 // since when an answer is being sent; 0: none is

	mu          sync.Mutex
	space, work sync.Cond
	queue       []beat
	sessions    int  // in queue and being worked on
	busy        int  // requests being worked on
	closed      bool // the stream is over
	drained     bool // the client has said all
}

// beat is one request and what it asks for; err is why it cannot be asked.
type beat struct {
	number uint64
	cmd    lease.Command
	err    error
	size   int // sessions
}

// guard runs one of the two goroutines and keeps a bug in it from ending the node.
func (b *beats) guard(run func() error) {
	defer func() {
		if bug := recover(); bug != nil {
			b.ended <- b.s.bug("Heartbeats", bug, debug.Stack())
		}
	}()
	b.ended <- run()
}

// watch returns when the stream is over, and why.
func (b *beats) watch() error {
	look := time.NewTicker(streamLook)
	defer look.Stop()
	left := 2
	for {
		select {
		case err := <-b.ended:
			if left--; err != nil || left == 0 {
				return err
			}
		case <-b.s.stopping:
			return cluster.ErrStopped
		case <-b.ctx.Done():
			return b.ctx.Err()
		case now := <-look.C:
			since := b.sending.Load()
			switch {
			case !b.s.cfg.Node.Leading():
				return &cluster.NotLeaderError{}
			case since != 0 && now.Sub(time.Unix(0, since)) > writeTimeout:
				b.s.metrics.slowStreams.Inc()
				return overloaded("the answers of this stream are not read")
			case now.Sub(time.Unix(0, b.touched.Load())) > streamIdle:
				return nil
			}
		}
	}
}

func (b *beats) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.space.Broadcast()
	b.work.Broadcast()
}

// receive takes requests in while there is room in the window.
func (b *beats) receive() error {
	defer func() {
		b.mu.Lock()
		b.drained = true
		b.work.Signal()
		b.mu.Unlock()
	}()
	for {
		r, err := b.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b.touched.Store(time.Now().UnixNano())
		x := beat{number: r.GetNumber(), size: 1}
		switch of := r.GetOf().(type) {
		case *pb.HeartbeatsRequest_Renew:
			x.cmd, x.err = renewOf(of.Renew)
		case *pb.HeartbeatsRequest_Batch:
			var many lease.RenewMany
			many, x.err = renewManyOf(of.Batch)
			x.cmd, x.size = many, max(1, len(many.Sessions))
		default:
			x.err = invalid("neither renew nor batch is given")
		}
		if !b.put(x) {
			return nil
		}
	}
}

func (b *beats) put(x beat) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && (len(b.queue)+b.busy >= streamWindow || b.sessions > 0 && b.sessions+x.size > streamSessions) {
		b.space.Wait()
	}
	b.queue = append(b.queue, x)
	b.sessions += x.size
	b.work.Signal()
	return !b.closed
}

// take returns all that waits, nil at the end.
func (b *beats) take(done []beat) []beat {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range done {
		b.sessions -= done[i].size
	}
	b.busy = 0
	b.space.Signal()
	for !b.closed && !b.drained && len(b.queue) == 0 {
		b.work.Wait()
	}
	if b.closed {
		return nil
	}
	list := b.queue
	b.queue, b.busy = nil, len(list)
	return list
}

// answer proposes what has come together and sends the answers, in order. What comes
// meanwhile is the next entry's.
func (b *beats) answer() error {
	var list []beat
	for {
		if list = b.take(list); len(list) == 0 {
			return nil
		}
		if err := b.serve(list); err != nil {
			return err
		}
	}
}

func (b *beats) serve(list []beat) error {
	cmds := make([]lease.Command, 0, len(list))
	renewals := 0
	for i := range list {
		if list[i].err == nil {
			cmds = append(cmds, list[i].cmd)
			renewals += list[i].size
		}
	}
	answers, err := b.s.proposeStreamed(b.ctx, cmds)
	if err != nil {
		return err
	}
	b.s.metrics.renewed.Add(float64(renewals))
	b.sending.Store(time.Now().UnixNano())
	defer b.sending.Store(0)
	next := 0
	var over error
	for i := range list {
		x := &list[i]
		r := &pb.HeartbeatsResponse{Number: x.number}
		err := x.err
		var applied cluster.Applied
		if err == nil {
			applied, err = answers[next].Applied, answers[next].Err
			if err == nil && applied.Reply.Refusal != nil {
				err = applied.Reply.Refusal
			}
			next++
		}
		switch {
		case err != nil:
			if notLeader := (*cluster.NotLeaderError)(nil); errors.As(err, &notLeader) {
				over = err
			}
			st := statusOf(err, b.s.cfg.Node.ID(), b.s.cfg.Node.Leader)
			r.Of = &pb.HeartbeatsResponse_Problem{Problem: problemOf(st)}
		case x.size > 1 || applied.Reply.Renewed != nil:
			r.Of = &pb.HeartbeatsResponse_Batch{Batch: renewBatchPB(applied)}
		default:
			r.Of = &pb.HeartbeatsResponse_Renewed{Renewed: renewPB(applied)}
		}
		if err := b.stream.Send(r); err != nil {
			return err
		}
		b.sending.Store(time.Now().UnixNano())
	}
	return over
}

// proposeStreamed has the commands of a stream replicated, when it is their turn.
func (s *Server) proposeStreamed(ctx context.Context, cmds []lease.Command) ([]cluster.Proposed, error) {
	if len(cmds) == 0 {
		return nil, nil
	}
	if err := s.streamed.Acquire(ctx, int64(len(cmds))); err != nil {
		return nil, err
	}
	defer s.streamed.Release(int64(len(cmds)))
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	return s.cfg.Node.ProposeMany(ctx, cmds)
}
