package bench

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// proberPause is waited after a "no" before the next node is asked.
	proberPause = 2 * time.Millisecond
	// proberBound is how long one try may take: a dead node answers at once, and one
	// that is not yet leading says so.
	proberBound = 250 * time.Millisecond
)

// prober is a raw client that asks one node after the other until one says yes. It keeps
// its session, and a request whose outcome it does not know it sends again with the same
// number, as every client must: with a new one each time, every answer that a kill
// swallowed would leave a seat with a session that nobody ends.
type prober struct {
	h    *holder
	at   int // the node that is asked
	held []*pb.LeaseRef
	// pending says that h.seq is the number of a request without a certain outcome.
	pending bool
}

func (w *Wire) newProber(i, clients int) *prober {
	return &prober{h: w.newHolder(i, clients, w.target.Feature), at: i}
}

// work checks out and in until ctx ends.
func (p *prober) work(ctx context.Context, first *firstAck) {
	for ctx.Err() == nil {
		sent := time.Now()
		taking := len(p.held) == 0
		err := p.try(ctx)
		switch {
		case err != nil:
			if taking {
				first.no(err)
			}
			pause(ctx, proberPause)
		case taking:
			first.acked(sent)
		}
	}
}

// try sends one request to one node: a checkout if nothing is held, else its check-in. An
// error means that another node should be asked.
func (p *prober) try(ctx context.Context) error {
	nodes := p.h.w.target.Addresses
	cc, err := p.h.w.to(nodes[p.at%len(nodes)], 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.h.w.target.signed(ctx), proberBound)
	defer cancel()
	h, seats := p.h, pb.NewSeatsClient(cc)
	if !p.pending {
		h.seq, p.pending = h.seq+1, true
	}
	if len(p.held) > 0 {
		_, err = seats.Checkin(ctx, &pb.CheckinRequest{SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Seq: h.seq,
			Refs: p.held, Tenant: h.tenant})
	} else {
		var answer *pb.CheckoutResponse
		answer, err = seats.Checkout(ctx, &pb.CheckoutRequest{Items: h.items, User: h.user, Host: "bench",
			SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Seq: h.seq, Tenant: h.tenant})
		if err == nil {
			p.pending = false
			for _, l := range answer.Leases {
				p.held = append(p.held, &pb.LeaseRef{Id: l.Id, FencingToken: l.FencingToken})
			}
			if len(p.held) == 0 { // granted long ago, and over meanwhile
				return &load.Reasoned{Reason: "lost", Err: errors.New("the seat was reclaimed before its grant was told")}
			}
			return nil
		}
	}
	return p.judged(err)
}

// judged takes in how a check-in ended, or a checkout that failed.
func (p *prober) judged(err error) error {
	if err == nil {
		p.pending, p.held = false, nil
		return nil
	}
	r := reasonOf(err)
	switch {
	case r.Reason == notLeader, r.Reason == unknownOutcome, r.Reason == "":
	case r.Reason == overloaded: // not in the ledger: the number is still good
	case isTransport(r):
	case r.Reason == sessionUnknown || r.Reason == staleRequest:
		p.h.renew()
		p.pending, p.held = false, nil
	default: // a "no" of the ledger, which remembers it for this number
		p.pending, p.held = false, nil
	}
	p.at++
	return r
}

// isTransport says whether no server answered: nobody knows what became of the request.
func isTransport(r *load.Reasoned) bool { return strings.HasPrefix(r.Reason, transportReason) }
