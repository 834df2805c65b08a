package rpc

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// calls that a pipeline carries.
type pipedCall uint8

const (
	callNone pipedCall = iota
	callRenew
	callRenewBatch
	callCheckout
	callCheckin
)

// pipedMethods are the calls they stand for: in metrics, and for who may do what.
var pipedMethods = [...]string{
	callNone:       pb.Seats_Pipeline_FullMethodName,
	callRenew:      pb.Seats_Renew_FullMethodName,
	callRenewBatch: pb.Seats_RenewBatch_FullMethodName,
	callCheckout:   pb.Seats_Checkout_FullMethodName,
	callCheckin:    pb.Seats_Checkin_FullMethodName,
}

// piped is one call of a pipeline.
type piped struct {
	number uint64
	what   pipedCall
	cmd    lease.Command
	minted string // the secret of a session made for it
	size   int    // sessions
	began  time.Time

	applied *cluster.Applied
	err     error

	// What it holds while it is worked on.
	ticket  ticket
	way     *approach // to the ticket; nil for what needs none
	counted bool      // among the connection's calls
	turn    bool      // one of streamedAtOnce
}

// read takes in what a call asks for; x.err is why it cannot be asked.
func (x *piped) read(p *pipeline, c *pb.PipelineCall) {
	x.number, x.size, x.applied = c.GetNumber(), 1, &nothingApplied
	var req any
	switch of := c.GetOf().(type) {
	case *pb.PipelineCall_Renew:
		x.what, req = callRenew, of.Renew
	case *pb.PipelineCall_Batch:
		x.what, req = callRenewBatch, of.Batch
	case *pb.PipelineCall_Checkout:
		x.what, req = callCheckout, of.Checkout
	case *pb.PipelineCall_Checkin:
		x.what, req = callCheckin, of.Checkin
	default:
		x.err = invalid("neither renew, batch, checkout nor checkin is given")
		return
	}
	who, err := p.s.authenticate(p.ctx, pipedMethods[x.what], req)
	if err == nil {
		_, err = tenantOf(req)
	}
	if err != nil {
		x.err = err
		return
	}
	switch r := req.(type) {
	case *pb.RenewRequest:
		x.cmd, x.err = renewOf(r)
	case *pb.RenewBatchRequest:
		var many lease.RenewMany
		many, x.err = renewManyOf(r)
		x.cmd, x.size = many, max(1, len(many.Sessions))
	case *pb.CheckinRequest:
		x.cmd, x.err = checkinOf(r)
	case *pb.CheckoutRequest:
		x.readCheckout(p, r, who)
	}
}

func (x *piped) readCheckout(p *pipeline, r *pb.CheckoutRequest, who caller) {
	if r.GetWaitMs() > 0 || r.GetQueueMs() > 0 {
		x.err = invalid("wait_ms is not served on a stream: use Checkout")
		return
	}
	var cmd lease.Checkout
	if cmd, x.minted, x.err = checkoutOf(&asker{Context: p.ctx, caller: who}, r); x.err != nil {
		return
	}
	x.cmd = cmd
	x.ticket = ticket{a: p.s.admission, tenant: p.s.roomFor(cmd.Tenant, who), class: asking, client: clientOf(r, who)}
}

// nothingApplied stands for the outcome of what was never proposed.
var nothingApplied cluster.Applied

// answer says into a what the client gets, and notes it in the metrics.
func (x *piped) answer(s *Server, a *pb.PipelineAnswer) {
	a.Number = x.number
	err := x.err
	if err == nil && x.applied.Reply.Refusal != nil {
		err = x.applied.Reply.Refusal
	}
	method := pipedMethods[x.what]
	s.metrics.of(method).seconds.Observe(time.Since(x.began).Seconds())
	if err != nil {
		problem, elsewhere, code := s.problem(err)
		s.metrics.failed(method, code, problem)
		a.Of, a.NotLeader = &pb.PipelineAnswer_Problem{Problem: problem}, elsewhere
		return
	}
	s.metrics.of(method).done.Inc()
	switch x.what {
	case callRenew:
		s.metrics.renewed.Inc()
		a.Of = &pb.PipelineAnswer_Renewed{Renewed: renewPB(*x.applied)}
	case callRenewBatch:
		s.metrics.renewed.Add(float64(x.size))
		a.Of = &pb.PipelineAnswer_Batch{Batch: renewBatchPB(*x.applied)}
	case callCheckout:
		a.Of = &pb.PipelineAnswer_Checkout{Checkout: checkoutPB(*x.applied, x.minted)}
	case callCheckin:
		a.Of = &pb.PipelineAnswer_Checkin{Checkin: checkinPB(*x.applied)}
	}
}

// problem is what statusOf says, without the status around it.
func (s *Server) problem(err error) (*pb.Problem, *pb.NotLeader, codes.Code) {
	if r, ok := err.(*lease.Refusal); ok {
		p, code := problemPB(r)
		return p, nil, code
	}
	st := statusOf(err, s.cfg.Node.ID(), s.cfg.Node.Leader)
	_, elsewhere := details(st)
	return problemOf(st), elsewhere, st.Code()
}
