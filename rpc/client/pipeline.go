package client

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

const (
	// messageCalls and messageBytes bound what is sent together: a quarter of what a node
	// has open on one stream, and half of what it takes in one message.
	messageCalls = 64
	messageBytes = maxRequest / 2
	// A stream that carried less than pipelineWorth messages in pipelineLook is closed: it
	// costs the node memory, and one session's heartbeats cost less as unary calls.
	pipelineLook  = time.Minute
	pipelineWorth = 10
)

// errPipelineOver is how a stream ends that nobody had a complaint about: idle, or closed.
var errPipelineOver = errors.New("the stream is closed")

// Pipeline carries the calls of many sessions over one stream of one connection: they
// share messages, log entries and wake-ups, and cost a fraction of unary calls. Requests
// may overtake each other. It is safe for concurrent use. It retries nothing and follows
// nobody: when it has ended (see Err), open another. Sessions of a Client have theirs by
// themselves.
//
// Errors are gRPC statuses with the details that the unary calls have. A call without an
// answer fails as the stream ended; its outcome is then unknown unless the status has a
// Problem or NotLeader in it.
type Pipeline struct {
	ctx    context.Context
	cancel context.CancelFunc
	stream grpc.BidiStreamingClient[pb.PipelineRequest, pb.PipelineResponse]
	wake   chan struct{} // makes the writer look at out

	mu      sync.Mutex
	number  uint64
	out     []*pipelined          // not sent yet
	waiting map[uint64]*pipelined // sent
	err     error                 // why it has ended
	taken   bool                  // the node took the stream
}

// pipelined is one call. All but done is guarded by Pipeline.mu.
type pipelined struct {
	call   *pb.PipelineCall
	size   int
	sent   bool
	answer *pb.PipelineAnswer
	err    error
	done   chan struct{}
}

// OpenPipeline opens a stream over cc, until Close or the end of ctx. It does not wait for
// the node; calls do.
func OpenPipeline(ctx context.Context, cc grpc.ClientConnInterface) *Pipeline {
	ctx, cancel := context.WithCancel(ctx)
	p := &Pipeline{ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), waiting: make(map[uint64]*pipelined)}
	go p.run(cc)
	return p
}

// Close ends the stream; calls without an answer fail.
func (p *Pipeline) Close() { p.end(errPipelineOver) }

// Err says why the stream has ended, nil while it has not.
func (p *Pipeline) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// run opens the stream and takes the answers. Nothing is sent before the node has taken
// the stream: so a stream that is refused leaves no doubt.
func (p *Pipeline) run(cc grpc.ClientConnInterface) {
	stream, err := pb.NewSeatsClient(cc).Pipeline(p.ctx)
	if err != nil {
		p.end(err)
		return
	}
	p.stream = stream
	header, err := stream.Header()
	if err == nil && header == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		p.end(overIfEOF(err))
		return
	}
	p.mu.Lock()
	p.taken = true
	p.mu.Unlock()
	go p.write()
	for {
		r, err := stream.Recv()
		if err != nil {
			p.end(overIfEOF(err))
			return
		}
		p.deliver(r.GetAnswers())
	}
}

func overIfEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errPipelineOver
	}
	return err
}

// write sends what has come together until the stream ends.
func (p *Pipeline) write() {
	look := time.NewTicker(pipelineLook)
	defer look.Stop()
	for messages := 0; ; {
		if r := p.next(); r != nil {
			messages++
			if p.stream.Send(r) != nil {
				return // the reader knows why
			}
			continue
		}
		select {
		case <-p.wake:
			// One message of answers wakes many callers, and the first would have a message
			// for itself: those that are about to run come first.
			runtime.Gosched()
		case <-p.ctx.Done():
			return
		case <-look.C:
			if messages < pipelineWorth && p.endIfIdle() {
				return
			}
			messages = 0
		}
	}
}

// next makes a message of what waits, nil of nothing.
func (p *Pipeline) next() *pb.PipelineRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	var r *pb.PipelineRequest
	bytes, n := 0, 0
	for _, x := range p.out {
		if n == messageCalls || n > 0 && bytes+x.size > messageBytes {
			break
		}
		if r == nil {
			r = &pb.PipelineRequest{Calls: make([]*pb.PipelineCall, 0, min(len(p.out), messageCalls))}
		}
		r.Calls = append(r.Calls, x.call)
		x.sent = true
		p.waiting[x.call.Number] = x
		bytes += x.size
		n++
	}
	clear(p.out[:n])
	if p.out = p.out[n:]; len(p.out) == 0 {
		p.out = nil
	}
	return r
}

// endIfIdle ends a stream on which nothing is on its way, before anything can be.
func (p *Pipeline) endIfIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out)+len(p.waiting) > 0 {
		return false
	}
	if p.err == nil {
		p.err = errPipelineOver
	}
	p.cancel()
	return true
}

func (p *Pipeline) deliver(answers []*pb.PipelineAnswer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range answers {
		if x := p.waiting[a.Number]; x != nil {
			delete(p.waiting, a.Number)
			x.answer = a
			close(x.done)
		}
	}
}

// end fails all that has no answer.
func (p *Pipeline) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel()
	if p.err != nil {
		return
	}
	p.err = err
	for _, x := range p.out {
		x.err = err
		close(x.done)
	}
	for _, x := range p.waiting {
		x.err = unanswered(err)
		close(x.done)
	}
	p.out, p.waiting = nil, nil
}

// unanswered is the error of a call that was sent: what the end of the stream says of
// leaders and refusals is not said of it.
func unanswered(err error) error {
	return status.Errorf(codes.Unknown, "the stream ended before the answer: %s", status.Convert(err).Message())
}

// do sends one call and waits for its answer. sent says whether it may have left this
// process.
func (p *Pipeline) do(ctx context.Context, call *pb.PipelineCall) (a *pb.PipelineAnswer, sent bool, err error) {
	x := &pipelined{call: call, size: wire.Size(call), done: make(chan struct{})}
	if x.size > maxRequest-16 {
		return nil, false, status.Errorf(codes.InvalidArgument, "the request has %d bytes, a node takes at most %d", x.size, maxRequest-16)
	}
	p.mu.Lock()
	if p.err != nil {
		defer p.mu.Unlock()
		return nil, false, p.err
	}
	p.number++
	call.Number = p.number
	p.out = append(p.out, x)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		if p.forget(x) {
			return nil, x.sent, status.FromContextError(ctx.Err()).Err()
		}
	}
	if x.err != nil {
		return nil, x.sent, x.err
	}
	return x.answer, true, answerError(x.answer)
}

// forget takes out a call that nobody waits for any more; false: it has its answer.
func (p *Pipeline) forget(x *pipelined) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.answer != nil || x.err != nil {
		return false
	}
	delete(p.waiting, x.call.Number)
	for i := range p.out {
		if p.out[i] == x {
			p.out = append(p.out[:i], p.out[i+1:]...)
			break
		}
	}
	return true
}

// answerError is the refusal in an answer, as a unary call would bring it.
func answerError(a *pb.PipelineAnswer) error {
	problem := a.GetProblem()
	if problem == nil {
		return nil
	}
	code := codes.Aborted
	switch lease.Reason(problem.Reason) {
	case NotLeader:
		code = codes.Unavailable
	case UnknownOutcome:
		code = codes.Unknown
	case lease.Overloaded, lease.NoSeats:
		code = codes.ResourceExhausted
	}
	details := []protoadapt.MessageV1{problem}
	if a.NotLeader != nil {
		details = append(details, a.NotLeader)
	}
	st, err := status.New(code, problem.Message).WithDetails(details...)
	if err != nil {
		return status.Error(code, problem.Message) // cannot happen: both are plain messages
	}
	return st.Err()
}

// Checkout is Seats.Checkout; a request with wait_ms is refused.
func (p *Pipeline) Checkout(ctx context.Context, r *pb.CheckoutRequest, _ ...grpc.CallOption) (*pb.CheckoutResponse, error) {
	a, _, err := p.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Checkout{Checkout: r}})
	return a.GetCheckout(), err
}

// Checkin is Seats.Checkin.
func (p *Pipeline) Checkin(ctx context.Context, r *pb.CheckinRequest, _ ...grpc.CallOption) (*pb.CheckinResponse, error) {
	a, _, err := p.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Checkin{Checkin: r}})
	return a.GetCheckin(), err
}

// Renew is Seats.Renew.
func (p *Pipeline) Renew(ctx context.Context, r *pb.RenewRequest, _ ...grpc.CallOption) (*pb.RenewResponse, error) {
	a, _, err := p.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Renew{Renew: r}})
	return a.GetRenewed(), err
}

// RenewBatch is Seats.RenewBatch.
func (p *Pipeline) RenewBatch(ctx context.Context, r *pb.RenewBatchRequest, _ ...grpc.CallOption) (*pb.RenewBatchResponse, error) {
	a, _, err := p.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Batch{Batch: r}})
	return a.GetBatch(), err
}
