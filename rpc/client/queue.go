package client

import (
	"context"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Queue gives the calls about who waits and what is booked, retried and redirected as
// the SDK's own.
func (c *Client) Queue() pb.QueueClient { return pb.NewQueueClient(c) }

// wait notes that a call waits for seats until the function it returns is called: leases
// that show in a heartbeat meanwhile may be what it waits for.
func (s *Session) wait() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiting--
	}
}

func (s *Session) tellQueued(position int) {
	if s.cfg.OnQueued != nil {
		s.cfg.OnQueued(position)
	}
}

// quitQueue gives up a place that nobody waits at any more, beside whatever comes next.
// If that does not get through, the place ends at its deadline, or with the session; what
// it is granted before, the heartbeat gives back.
func (s *Session) quitQueue(ticket uint64) {
	s.mu.Lock()
	req := &pb.QueueLeaveRequest{SessionId: s.id.String(), SessionSecret: s.secret, Incarnation: s.incarnation, Ticket: ticket, Tenant: s.c.cfg.Tenant}
	over := s.over != nil
	p := s.plan(0)
	s.mu.Unlock()
	if ticket == 0 || over {
		return // there is none, or it ends with the session
	}
	p.laps = 1
	ctx, cancel := context.WithTimeout(s.ctx, s.c.cfg.CallTimeout)
	go func() {
		defer cancel()
		_, _ = s.c.do(ctx, p, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
			_, err := pb.NewQueueClient(cc).QueueLeave(ctx, req, opts...)
			return err
		})
	}()
}

func refusedOf(list []*pb.RefusedItem) (out []Refused) {
	for _, r := range list {
		out = append(out, Refused{
			Item: Item{Feature: r.Feature, Version: r.Version, Count: int(r.Count)},
			Err:  &Error{Reason: lease.Reason(r.Reason), Message: r.Message, Final: r.Final},
		})
	}
	return out
}
