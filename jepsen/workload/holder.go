package workload

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// holder is a session that is kept by hand: it numbers its requests, asks again with
// the same number when an outcome is unknown, and times its leases by the SDK's rules.
type holder struct {
	api    api
	voice  *voice
	rng    *mathrand.Rand
	tenant string
	user   string
	host   string

	id, secret       string
	incarnation, seq uint64
	held             map[uint64]*hold
	nextBeat         client.Instant
	bug              string
	// queue is how long the next checkout wants a place in the queue, wait how long it lets
	// the server wait for it; booking is the one whose seats it uses.
	queue, wait time.Duration
	booking     string
	// again is a request whose outcome is unknown, to be asked again.
	again *asked
}

type hold struct {
	lease  history.Lease
	belief client.Belief
}

// asked is one numbered request.
type asked struct {
	checkout *pb.CheckoutRequest
	checkin  *pb.CheckinRequest
	request  string
	// unsure: an earlier try may have been heard.
	unsure bool
}

func newHolder(a api, w *worker, tenant string) *holder {
	v := w.voice
	h := &holder{api: a, voice: v, rng: w.rng, tenant: tenant, bug: w.cfg.Bug, user: v.client, host: v.client + "-host"}
	h.mint()
	return h
}

// mint begins another session. What was held is not believed in any more.
func (h *holder) mint() {
	h.loseAll("session_unknown")
	var id [16]byte
	var secret [32]byte
	_, _ = rand.Read(id[:])
	_, _ = rand.Read(secret[:])
	h.id, h.secret = hex.EncodeToString(id[:]), hex.EncodeToString(secret[:])
	h.incarnation, h.seq, h.again = 1, 0, nil
	h.held = map[uint64]*hold{}
	h.nextBeat = 0
}

// loseAll notes the end of every belief. It is called before anything is sent that may
// free a seat.
func (h *holder) loseAll(cause string) {
	for _, id := range h.ids() {
		h.lose(id, cause)
	}
}

func (h *holder) lose(id uint64, cause string) {
	x := h.held[id]
	if x == nil {
		return
	}
	delete(h.held, id)
	if x.belief.State(client.SystemClock()) != client.Lost {
		h.voice.fact(history.FLost, h.id, &history.Lost{ID: id, Token: x.lease.Token, At: h.voice.r.Now(), Cause: cause})
	}
}

func (h *holder) ids() []uint64 {
	ids := make([]uint64, 0, len(h.held))
	for id := range h.held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// sweep forgets leases that may not be believed in any more, by the clock.
func (h *holder) sweep() {
	now := client.SystemClock()
	for id, x := range h.held {
		if x.belief.State(now) == client.Lost {
			delete(h.held, id)
		}
	}
}

// confirm takes in a lease of an answer to what was sent at sent. One that is being given
// back is nobody's any more, whether the cluster knows that already or not.
func (h *holder) confirm(sent client.Instant, l *pb.Lease) {
	if h.returning(l.Id) {
		return
	}
	if h.bug == BugReceipt {
		sent = client.SystemClock()
	}
	x := h.held[l.Id]
	if x == nil || x.lease.Token != l.FencingToken {
		x = &hold{}
		h.held[l.Id] = x
	}
	x.lease = leaseOf(l)
	if l.State == "active" || l.State == "" {
		x.belief.Confirm(sent, time.Duration(l.RemainingMs)*time.Millisecond, time.Duration(l.GraceMs)*time.Millisecond)
	}
	// The history's clock is read before the lease's, so that the end is not too late.
	at, now := h.voice.r.Now(), client.SystemClock()
	if left := x.belief.Remaining(now); left > 0 {
		h.voice.fact(history.FBelieve, h.id, &history.Believe{Lease: x.lease, At: h.voice.r.Now(), Until: at + int64(left)})
	}
}

// returning says whether a check-in without an answer may have been about the lease.
func (h *holder) returning(id uint64) bool {
	if h.again == nil || h.again.checkin == nil {
		return false
	}
	refs := h.again.checkin.Refs
	return len(refs) == 0 || slices.ContainsFunc(refs, func(r *pb.LeaseRef) bool { return r.Id == id })
}

func leaseOf(l *pb.Lease) history.Lease {
	x := history.Lease{ID: l.Id, Handle: uint64(l.Handle), Feature: l.Feature, Version: l.Version, Count: int(l.Count),
		Token: l.FencingToken, State: l.State, RemainingMS: int64(l.RemainingMs), GraceMS: int64(l.GraceMs)}
	for _, s := range l.Seats {
		x.Seats = append(x.Seats, int(s))
	}
	return x
}

func leasesOf(list []*pb.Lease) []history.Lease {
	var out []history.Lease
	for _, l := range list {
		out = append(out, leaseOf(l))
	}
	return out
}

// op begins the line of a request of this session.
func (h *holder) op(f history.F, request string, seq uint64, value any) history.Op {
	return history.Op{F: f, Value: value, Request: request, Session: h.id, Incarnation: h.incarnation, Seq: seq}
}

// checkout asks for items. A request is a wish: the same one may be asked twice.
func (h *holder) checkout(ctx context.Context, request string, items ...history.Item) ([]history.Lease, error) {
	h.seq++
	r := &pb.CheckoutRequest{User: h.user, Host: h.host, InstanceId: h.voice.client, SessionId: h.id, SessionSecret: h.secret,
		Incarnation: h.incarnation, Seq: h.seq, Tenant: h.tenant,
		WaitMs: uint32(h.wait.Milliseconds()), QueueMs: uint32(h.queue.Milliseconds()), Booking: h.booking}
	for _, it := range items {
		r.Items = append(r.Items, &pb.Item{Feature: it.Feature, Version: it.Version, Count: int32(it.Count)})
	}
	return h.sendCheckout(ctx, &asked{checkout: r, request: request})
}

func (h *holder) sendCheckout(ctx context.Context, a *asked) ([]history.Lease, error) {
	r := a.checkout
	ask := history.Checkout{Tenant: r.Tenant, User: r.User, Host: r.Host, WaitMS: int64(r.WaitMs), QueueMS: int64(r.QueueMs), Booking: r.Booking}
	for _, it := range r.Items {
		ask.Items = append(ask.Items, history.Item{Feature: it.Feature, Version: it.Version, Count: int(it.Count)})
	}
	var answer *pb.CheckoutResponse
	var sent client.Instant
	o := h.voice.do(h.op(history.FCheckout, a.request, r.Seq, &ask), func() outcome {
		var err error
		sent = client.SystemClock()
		if answer, err = h.api.Checkout(ctx, r); err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result, got.Replayed, got.Leases = history.Granted, answer.Replayed, leasesOf(answer.Leases)
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	if h.after(a, o.err); o.err != nil {
		return nil, o.err
	}
	for _, l := range answer.Leases {
		h.confirm(sent, l)
	}
	h.planBeat(answer.Session, sent)
	return leasesOf(answer.Leases), nil
}

// after keeps a request whose outcome is unknown, and begins another session when this
// one is over.
func (h *holder) after(a *asked, err error) {
	h.again = nil
	if err == nil {
		return
	}
	switch typ, _, _ := judge(err); typ {
	case history.Info:
		a.unsure = true
		h.again = a
		return
	case history.Fail:
		if a.unsure { // this try was not heard, one before may have been
			h.again = a
			return
		}
		h.seq-- // nobody saw the number
		return
	}
	switch reasonOf(err) {
	case sessionUnknown, fenced, staleRequest:
		h.mint()
	}
}

// askAgain repeats what is in doubt. It returns false when nothing is.
func (h *holder) askAgain(ctx context.Context) (bool, error) {
	a := h.again
	switch {
	case a == nil:
		return false, nil
	case a.checkout != nil && h.bug == BugNewRequest:
		h.mint()
		h.seq = 1
		a.checkout.SessionId, a.checkout.SessionSecret, a.checkout.Incarnation, a.checkout.Seq = h.id, h.secret, 1, 1
		_, err := h.sendCheckout(ctx, a)
		return true, err
	case a.checkout != nil:
		_, err := h.sendCheckout(ctx, a)
		return true, err
	}
	return true, h.sendCheckin(ctx, a)
}

func (h *holder) planBeat(s *pb.Session, sent client.Instant) {
	every := time.Duration(s.GetHeartbeatMs()) * time.Millisecond
	if every == 0 {
		every = time.Second
	}
	h.nextBeat = sent.Add(every - time.Duration(h.rng.Float64()*0.2*float64(every)))
}

// beatDue says whether a heartbeat is due.
func (h *holder) beatDue() bool { return len(h.held) > 0 && client.SystemClock() >= h.nextBeat }

// renew sends one heartbeat.
func (h *holder) renew(ctx context.Context) error {
	r := &pb.RenewRequest{SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Tenant: h.tenant}
	ask := history.Renew{}
	for _, id := range h.ids() {
		token := h.held[id].lease.Token
		r.Held = append(r.Held, &pb.LeaseRef{Id: id, FencingToken: token})
		ask.Held = append(ask.Held, history.Ref{ID: id, Token: token})
	}
	var answer *pb.RenewResponse
	var sent client.Instant
	o := h.voice.do(h.op(history.FRenew, "", 0, &ask), func() outcome {
		var err error
		sent = client.SystemClock()
		if answer, err = h.api.Renew(ctx, r); err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result, got.Leases = history.Done, leasesOf(answer.Leases)
		for _, l := range answer.Lost {
			got.Lost = append(got.Lost, history.Ended{ID: l.Id, Token: l.FencingToken, Feature: l.Feature, Reason: l.Reason})
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	if o.err != nil {
		h.nextBeat = client.SystemClock().Add(200 * time.Millisecond)
		switch reasonOf(o.err) {
		case sessionUnknown, fenced:
			h.mint()
		}
		return o.err
	}
	alive := map[uint64]bool{}
	for _, l := range answer.Leases {
		alive[l.Id] = true
		h.confirm(sent, l)
	}
	for _, id := range h.ids() {
		if !alive[id] {
			h.lose(id, "not_confirmed")
		}
	}
	h.planBeat(answer.Session, sent)
	return nil
}

// resume goes on as the next run of the same application: what it held it may learn
// again from the answer.
func (h *holder) resume(ctx context.Context) error {
	h.loseAll(history.CauseCrashed)
	h.incarnation++
	h.seq, h.again = 0, nil
	h.api.Drop()
	return h.renew(ctx)
}

// checkin gives leases back; none means all. close ends the session too.
func (h *holder) checkin(ctx context.Context, end bool, ids ...uint64) error {
	h.seq++
	r := &pb.CheckinRequest{SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Seq: h.seq, Close: end, Tenant: h.tenant}
	for _, id := range ids {
		if x := h.held[id]; x != nil {
			r.Refs = append(r.Refs, &pb.LeaseRef{Id: id, FencingToken: x.lease.Token})
		}
	}
	if len(ids) == 0 {
		ids = h.ids()
	}
	for _, id := range ids {
		h.lose(id, history.CauseReleased)
	}
	return h.sendCheckin(ctx, &asked{checkin: r, request: h.voice.newRequest()})
}

func (h *holder) sendCheckin(ctx context.Context, a *asked) error {
	r := a.checkin
	ask := history.Checkin{Close: r.Close}
	for _, ref := range r.Refs {
		ask.Refs = append(ask.Refs, history.Ref{ID: ref.Id, Token: ref.FencingToken})
	}
	o := h.voice.do(h.op(history.FCheckin, a.request, r.Seq, &ask), func() outcome {
		answer, err := h.api.Checkin(ctx, r)
		if err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result, got.Replayed = history.Done, answer.Replayed
		for _, l := range answer.Released {
			got.Released = append(got.Released, history.Ended{ID: l.Id, Token: l.FencingToken, Feature: l.Feature, Count: int(l.Count), Reason: l.Reason})
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	if h.after(a, o.err); o.err == nil && r.Close {
		h.mint()
	}
	return o.err
}

// closeSession ends the session, trying until ctx ends. It suits the end of a run.
func (h *holder) closeSession(ctx context.Context) error {
	if h.seq == 0 && len(h.held) == 0 && h.again == nil {
		return nil // never opened
	}
	for {
		err := h.finish(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (h *holder) finish(ctx context.Context) error {
	one, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if h.again != nil {
		if _, err := h.askAgain(one); h.again != nil {
			return err
		}
	}
	if h.seq == 0 {
		return nil // a new session was begun meanwhile
	}
	err := h.checkin(one, true)
	var e *client.Error
	if errors.As(err, &e) && reasonOf(err) == sessionUnknown {
		return nil
	}
	return err
}
