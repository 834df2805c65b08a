package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/bench/load"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// messages makes the heartbeats of one client, its sessions in turn. It is used by one
// goroutine.
type messages struct {
	w        *Wire
	i        int
	sessions []*holder
	per      int
	batched  bool
	next     int
	ready    map[int]*pb.RenewBatchRequest // by the first session: they never change
	made     []*pb.RenewBatchRequest       // if not empty, instead of what sessions come to
}

// one renews the next session.
func (m *messages) one() *pb.RenewRequest {
	h := m.sessions[m.next]
	m.next = (m.next + 1) % len(m.sessions)
	return &pb.RenewRequest{SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Tenant: h.tenant}
}

// batch renews the next sessions, at most as many as there are.
func (m *messages) batch() *pb.RenewBatchRequest {
	if len(m.made) > 0 {
		r := m.made[m.next]
		m.next = (m.next + 1) % len(m.made)
		return r
	}
	from := m.next
	to := min(from+m.per, len(m.sessions))
	m.next = to % len(m.sessions)
	if r := m.ready[from]; r != nil {
		return r
	}
	r := &pb.RenewBatchRequest{Tenant: m.sessions[from].tenant}
	for _, h := range m.sessions[from:to] {
		h.addTo(r)
	}
	if m.ready == nil {
		m.ready = map[int]*pb.RenewBatchRequest{}
	}
	m.ready[from] = r
	return r
}

// idBytes is how long a session id is.
const idBytes = 16

// addTo adds the session to a message that renews many.
func (h *holder) addTo(r *pb.RenewBatchRequest) {
	id, err := hex.DecodeString(h.id)
	if err != nil {
		panic(err) // we minted it
	}
	r.SessionIds = append(r.SessionIds, id...)
	r.SessionSecrets = append(r.SessionSecrets, h.secret...)
}

// judged counts the results of a batch.
func judged(m *load.Meter, r *pb.RenewBatchResponse) {
	renewed := 0
	for _, result := range r.Results {
		switch result {
		case pb.RenewResult_RENEW_RESULT_RENEWED, pb.RenewResult_RENEW_RESULT_RENEWED_WITH_NEWS:
			renewed++
		default:
			m.Error(result.String())
		}
	}
	m.Units(renewed)
}

// beater renews by one call each.
type beater struct{ *messages }

func (b *beater) Do(ctx context.Context, _ *load.Meter) error {
	cc, err := b.w.conn(b.i)
	if err != nil {
		return load.Fatal(err)
	}
	call, cancel := b.w.target.call(ctx)
	defer cancel()
	_, err = pb.NewSeatsClient(cc).Renew(call, b.one())
	return b.w.reasoned(ctx, err)
}

func (b *beater) Close(context.Context) {}

// batchBeater renews many by one call.
type batchBeater struct{ *messages }

func (b *batchBeater) Do(ctx context.Context, m *load.Meter) error {
	cc, err := b.w.conn(b.i)
	if err != nil {
		return load.Fatal(err)
	}
	call, cancel := b.w.target.call(ctx)
	defer cancel()
	answer, err := pb.NewSeatsClient(cc).RenewBatch(call, b.batch())
	if err != nil {
		return b.w.reasoned(ctx, err)
	}
	judged(m, answer)
	return nil
}

func (b *batchBeater) Close(context.Context) {}

// streamBeater has a stream with several messages on their way. An operation is one
// answer; answers may come in any order.
type streamBeater struct {
	*messages
	window int
	stream grpc.BidiStreamingClient[pb.PipelineRequest, pb.PipelineResponse]
	cancel context.CancelFunc
	number uint64
	sent   map[uint64]time.Time
	got    []*pb.PipelineAnswer // not looked at yet
}

// openStream opens the stream of one client; it outlives ctx.
func openStream(ctx context.Context, m *messages, window int) (*streamBeater, error) {
	// A server takes eight full batches from one stream at once; we send all before we read.
	s := &streamBeater{messages: m, window: min(window, max(1, 4*MaxPerMessage/m.per))}
	return s, s.open(ctx)
}

func (s *streamBeater) open(ctx context.Context) error {
	cc, err := s.w.conn(s.i)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.w.target.signed(context.WithoutCancel(ctx)))
	stream, err := pb.NewSeatsClient(cc).Pipeline(ctx)
	if err != nil {
		cancel()
		return err
	}
	s.stream, s.cancel, s.sent, s.got = stream, cancel, map[uint64]time.Time{}, nil
	return nil
}

func (s *streamBeater) Do(ctx context.Context, m *load.Meter) error {
	// What ends the step ends the stream too, or an answer that never comes would
	// keep us here.
	defer context.AfterFunc(ctx, s.cancel)()
	if len(s.got) == 0 {
		s.fill()
		r, err := s.stream.Recv()
		if err != nil {
			return s.broken(ctx, err)
		}
		s.got = r.Answers
	}
	answer := s.got[0]
	s.got = s.got[1:]
	if s.window > 1 {
		m.Sent(s.sent[answer.Number])
	}
	delete(s.sent, answer.Number)
	switch of := answer.Of.(type) {
	case *pb.PipelineAnswer_Batch:
		judged(m, of.Batch)
	case *pb.PipelineAnswer_Problem:
		return &load.Reasoned{Reason: of.Problem.Reason, Pause: time.Duration(of.Problem.RetryAfterMs) * time.Millisecond, Err: errors.New(of.Problem.Message)}
	}
	return nil
}

// fill sends what has room in the window, together as far as one message takes it.
func (s *streamBeater) fill() {
	const most = 256 // calls in a message; and of sessions as many as in a full batch
	r := &pb.PipelineRequest{}
	for len(s.sent) < s.window {
		s.number++
		s.sent[s.number] = time.Now()
		r.Calls = append(r.Calls, s.message())
		if n := len(r.Calls) + 1; n > most || n*s.per > MaxPerMessage {
			_ = s.stream.Send(r)
			r = &pb.PipelineRequest{}
		}
	}
	if len(r.Calls) > 0 {
		_ = s.stream.Send(r) // Recv says what is wrong
	}
}

func (s *streamBeater) message() *pb.PipelineCall {
	r := &pb.PipelineCall{Number: s.number}
	if s.batched {
		r.Of = &pb.PipelineCall_Batch{Batch: s.batch()}
	} else {
		r.Of = &pb.PipelineCall_Renew{Renew: s.one()}
	}
	return r
}

// broken opens the stream again, at the new leader if there is one.
func (s *streamBeater) broken(ctx context.Context, err error) error {
	s.cancel()
	reasoned := s.w.reasoned(ctx, err)
	if ctx.Err() != nil {
		return reasoned
	}
	if err := s.open(ctx); err != nil {
		return load.Fatal(err)
	}
	return reasoned
}

func (s *streamBeater) Close(context.Context) { s.cancel() }
