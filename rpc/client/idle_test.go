package client

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Each heartbeat tells how long nobody has worked, if the application knows; a seat that is
// taken back for it is lost with the reason timeout.
func TestHeartbeatTellsTheIdleTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		var idle, told atomic.Int64
		f.before = func(method string, req any) error {
			if r, ok := req.(*pb.RenewRequest); ok {
				told.Store(-1)
				if r.IdleMs != nil {
					told.Store(int64(r.GetIdleMs()))
				}
			}
			return nil
		}
		_, quiet := f.open(t, f.config("a:1"), SessionConfig{})
		take(t, quiet, "mesh")
		if err := quiet.Renew(t.Context()); err != nil || told.Load() != -1 {
			t.Errorf("%v; without a word of the application it told %d", err, told.Load())
		}
		_, s := f.open(t, f.config("a:1"), SessionConfig{Idle: func() time.Duration { return time.Duration(idle.Load()) }})
		l := take(t, s, "cad")
		idle.Store(int64(20 * time.Minute))
		if err := s.Renew(t.Context()); err != nil || told.Load() != (20*time.Minute).Milliseconds() {
			t.Errorf("%v; it told %d ms", err, told.Load())
		}
		f.set(func() {
			x := f.sessions[s.ID().String()]
			x.lost = []*pb.LostLease{{Id: uint64(l.ID()), FencingToken: uint64(l.Token()), Feature: "cad", Reason: lease.ReleasedTimeout.String()}}
			x.leases = nil
		})
		if err := s.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if l.Valid() || l.Reason() != "timeout" {
			t.Errorf("valid %v, reason %q", l.Valid(), l.Reason())
		}
	})
}

// While a checkout waits its place is kept a little longer than that; the last request, which
// does not wait, ends it. So no place ends by itself before, as a denial of its own.
func TestThePlaceInTheQueueOutlivesTheWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.total = 0
		start := time.Now()
		var last *pb.CheckoutRequest
		f.before = func(_ string, req any) error {
			r, ok := req.(*pb.CheckoutRequest)
			if !ok {
				return nil
			}
			last = r
			end := time.Since(start) + time.Duration(r.QueueMs)*time.Millisecond
			if r.QueueMs > 0 && end < 10*time.Second+QueueMargin/2 {
				t.Errorf("after %v the place is kept for %d ms", time.Since(start), r.QueueMs)
			}
			return nil
		}
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		if _, err := s.CheckoutWait(t.Context(), 10*time.Second, Item{Feature: "cad", Count: 1}); err == nil {
			t.Fatal("got a seat")
		}
		if last == nil || last.QueueMs != 0 || last.WaitMs != 0 {
			t.Errorf("the last request was %v", last)
		}
	})
}
