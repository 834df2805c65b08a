package rpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// pipe is a stream whose answers are read one by one.
type pipe struct {
	grpc.BidiStreamingClient[pb.PipelineRequest, pb.PipelineResponse]
	t      *testing.T
	cancel context.CancelFunc
	got    []*pb.PipelineAnswer
}

func (a *api) pipe(t *testing.T) *pipe { return a.pipeOver(t, a.dial(t)) }

func (a *api) pipeOver(t *testing.T, cc *grpc.ClientConn) *pipe {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s, err := pb.NewSeatsClient(cc).Pipeline(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &pipe{BidiStreamingClient: s, t: t, cancel: cancel}
}

func (p *pipe) send(calls ...*pb.PipelineCall) {
	p.t.Helper()
	if err := p.Send(&pb.PipelineRequest{Calls: calls}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipe) recv() (*pb.PipelineAnswer, error) {
	for len(p.got) == 0 {
		r, err := p.Recv()
		if err != nil {
			return nil, err
		}
		p.got = r.Answers
	}
	a := p.got[0]
	p.got = p.got[1:]
	return a, nil
}

// answers reads n answers, by number.
func (p *pipe) answers(n int) map[uint64]*pb.PipelineAnswer {
	p.t.Helper()
	m := map[uint64]*pb.PipelineAnswer{}
	for range n {
		a, err := p.recv()
		if err != nil {
			p.t.Fatal(err)
		}
		if m[a.Number] != nil {
			p.t.Fatalf("number %d is answered twice", a.Number)
		}
		m[a.Number] = a
	}
	return m
}

func (p *pipe) answer() *pb.PipelineAnswer {
	p.t.Helper()
	for _, a := range p.answers(1) {
		return a
	}
	return nil
}

func renewal(n uint64, id, secret string) *pb.PipelineCall {
	return &pb.PipelineCall{Number: n, Of: &pb.PipelineCall_Renew{Renew: &pb.RenewRequest{SessionId: id, SessionSecret: secret}}}
}

func batchOf(n uint64, b *pb.RenewBatchRequest) *pb.PipelineCall {
	return &pb.PipelineCall{Number: n, Of: &pb.PipelineCall_Batch{Batch: b}}
}

func asks(n uint64, r *pb.CheckoutRequest) *pb.PipelineCall {
	return &pb.PipelineCall{Number: n, Of: &pb.PipelineCall_Checkout{Checkout: r}}
}

// asksAs is a checkout of cad by a user.
func asksAs(n uint64, user string) *pb.PipelineCall {
	return asks(n, &pb.CheckoutRequest{Feature: "cad", User: user, Host: "ws1"})
}

func returns(n uint64, r *pb.CheckinRequest) *pb.PipelineCall {
	return &pb.PipelineCall{Number: n, Of: &pb.PipelineCall_Checkin{Checkin: r}}
}

func wantProblem(t *testing.T, a *pb.PipelineAnswer, reason lease.Reason) {
	t.Helper()
	if a.GetProblem().GetReason() != string(reason) {
		t.Errorf("got %v, want a problem of the reason %s", a, reason)
	}
}

// pack makes a batch of sessions whose secrets have one length.
func pack(t *testing.T, sessions ...[2]string) *pb.RenewBatchRequest {
	t.Helper()
	b := &pb.RenewBatchRequest{}
	for _, s := range sessions {
		id, err := hex.DecodeString(s[0])
		if err != nil {
			t.Fatal(err)
		}
		b.SessionIds = append(b.SessionIds, id...)
		b.SessionSecrets = append(b.SessionSecrets, s[1]...)
	}
	return b
}

func TestPipelineAnswersEveryCallByNumberAndGoesOn(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	id2, secret2, _ := a.checkout(t, "solver", "bob")
	p := a.pipe(t)
	p.send(renewal(7, id, secret), renewal(9, id, "wrong"), &pb.PipelineCall{Number: 11},
		batchOf(13, pack(t, [2]string{id2, secret2})), renewal(15, "nonsense", secret))
	p.send(asks(17, &pb.CheckoutRequest{Feature: "mesh", User: "eve"}), asks(19, &pb.CheckoutRequest{Feature: "old"}),
		asks(21, &pb.CheckoutRequest{Feature: "cad", WaitMs: 5}), asks(23, &pb.CheckoutRequest{}))
	p.send(returns(25, &pb.CheckinRequest{SessionId: id2, SessionSecret: secret2}))
	if err := p.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got := p.answers(10)
	if r := got[7].GetRenewed(); len(r.GetLeases()) != 1 || r.GetRaftIndex() == 0 {
		t.Errorf("a renewal: %v", r)
	}
	if r := got[13].GetBatch(); len(r.GetResults()) != 1 || r.GetRemainingMs()[0] != 120_000 {
		t.Errorf("a batch: %v", r)
	}
	if r := got[17].GetCheckout(); len(r.GetLeases()) != 1 || r.GetSession().GetSecret() == "" {
		t.Errorf("a checkout: %v", r)
	}
	if r := got[25].GetCheckin(); len(r.GetReleased()) != 1 {
		t.Errorf("a check-in: %v", r)
	}
	for n, reason := range map[uint64]lease.Reason{9: lease.Forbidden, 11: lease.Invalid, 15: lease.Invalid,
		19: lease.LicenseExpired, 21: lease.Invalid, 23: lease.Invalid} {
		wantProblem(t, got[n], reason)
	}
	if _, err := p.recv(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

func TestPipelineRepeatsTheAnswerOfANumberedCheckout(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	p := a.pipe(t)
	r := &pb.CheckoutRequest{Feature: "cad", SessionId: fmt.Sprintf("%032x", 7), SessionSecret: "s", Incarnation: 1, Seq: 1}
	p.send(asks(1, r))
	first := p.answer().GetCheckout()
	p.send(asks(2, r))
	again := p.answer().GetCheckout()
	if len(first.GetLeases()) != 1 || first.Replayed || !again.GetReplayed() || again.Leases[0].Id != first.Leases[0].Id {
		t.Errorf("%v, then %v", first, again)
	}
	if got := a.post(t, "/v1/checkout", fmt.Sprintf(`{"feature":"cad","session_id":%q,"session_secret":"s","incarnation":1,"seq":1}`, r.SessionId)); got.status != 200 || got.body["replayed"] != true {
		t.Errorf("by a unary call: %s", got.text)
	}
}

// What is on its way at once is proposed together, and no more than the window is.
func TestPipelineKeepsToItsWindow(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	p := a.pipe(t)
	hold := make(chan struct{})
	node.set(func() { node.holdMany = hold })
	const n, together = 3 * pipeWindow, pipeWindow / 4
	go func() {
		for i := 0; i < n; i += together {
			r := &pb.PipelineRequest{}
			for k := range together {
				r.Calls = append(r.Calls, renewal(uint64(i+k), id, secret))
			}
			if p.Send(r) != nil {
				return
			}
		}
		_ = p.CloseSend()
	}()
	inFlight := func() int {
		node.mu.Lock()
		defer node.mu.Unlock()
		sum := 0
		for _, k := range node.together {
			sum += k
		}
		return sum
	}
	eventually(t, "the window is full", func() bool { return inFlight() >= pipeWindow })
	<-time.After(20 * time.Millisecond) // more would come now
	if n := inFlight(); n != pipeWindow {
		t.Errorf("%d are on their way, want %d", n, pipeWindow)
	}
	close(hold)
	for n, r := range p.answers(n) {
		if r.GetRenewed() == nil {
			t.Fatalf("answer %d: %v", n, r)
		}
	}
	node.mu.Lock()
	defer node.mu.Unlock()
	if slices.Max(node.together) < together {
		t.Errorf("proposed together: %v", node.together)
	}
}

func TestPipelineTakesNoEmptyAndNoOversizedMessage(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	for _, n := range []int{0, pipeWindow + 1} {
		p := a.pipe(t)
		p.send(make([]*pb.PipelineCall, n)...)
		if _, err := p.recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%d calls: %v", n, err)
		}
	}
}

func TestPipelineOfAFollowerOrALostLeaderEndsWithWhoLeads(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	a.pipes.look = 50 * time.Millisecond
	id, secret, _ := a.checkout(t, "cad", "ann")
	leads := func(err error) {
		t.Helper()
		_, to := details(status.Convert(err))
		if status.Code(err) != codes.Unavailable || to.GetLeaderAddress() != "10.0.0.2:7800" {
			t.Errorf("got %v, want UNAVAILABLE with the leader's address", err)
		}
	}
	busy, idle, late := a.pipe(t), a.pipe(t), a.pipe(t)
	for _, p := range []*pipe{busy, idle, late} {
		p.send(renewal(1, id, secret))
		p.answer()
	}
	hold := make(chan struct{})
	node.set(func() { node.holdMany = hold })
	late.send(renewal(2, id, secret)) // in the log when leadership is lost
	eventually(t, "it is on its way", func() bool { node.mu.Lock(); defer node.mu.Unlock(); return node.heldMany == 4 })
	node.set(func() {
		node.leading, node.holdMany, node.failEach = false, nil, nil
		node.epoch.Node, node.epoch.APIAddress = "n2-00000002", "10.0.0.2:7800"
	})
	busy.send(renewal(2, id, secret), asksAs(3, "bob"))
	for n, r := range busy.answers(2) {
		wantProblem(t, r, NotLeader)
		if r.GetNotLeader().GetLeaderAddress() != "10.0.0.2:7800" {
			t.Errorf("answer %d: %v, want the leader's address", n, r)
		}
	}
	_, err := busy.recv()
	leads(err)
	_, err = idle.recv() // without a request
	leads(err)
	_, err = late.recv() // no answer came: its outcome is unknown
	leads(err)
	close(hold)
	refused := a.pipe(t)
	if header, _ := refused.Header(); header != nil {
		t.Errorf("a follower took the stream: %v", header)
	}
	_, err = refused.recv()
	leads(err)
}

func TestOutcomeOfAStreamedCallIsToldHonestly(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.RequestTimeout = 30 * time.Millisecond })
	a.pipes.look = 10 * time.Millisecond
	id, secret, _ := a.checkout(t, "cad", "ann")
	p := a.pipe(t)
	for name, change := range map[string]func(){
		"the cluster does not know": func() { node.failEach = cluster.ErrUnknown },
		"no answer comes":           func() { node.holdMany = make(chan struct{}) },
	} {
		node.set(change)
		p.send(renewal(1, id, secret))
		if r := p.answer(); r.GetProblem().GetReason() != string(UnknownOutcome) {
			t.Error(name, r)
		}
		node.set(func() { node.failEach, node.holdMany = nil, nil })
	}
	p.send(renewal(2, id, secret))
	if r := p.answer(); r.GetRenewed() == nil {
		t.Error("the stream does not go on:", r)
	}
}

func TestPipelinesAreBoundedByNodeAndByConnection(t *testing.T) {
	full := func(err error) {
		t.Helper()
		if p, _ := details(status.Convert(err)); p.GetReason() != string(lease.Overloaded) || p.GetRetryAfterMs() == 0 {
			t.Errorf("one too many: %v", err)
		}
	}
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Pipelines = 1 })
	one := a.pipe(t)
	if _, err := one.Header(); err != nil {
		t.Fatal(err)
	}
	_, err := a.pipe(t).recv()
	full(err)
	_ = one.CloseSend()
	if _, err := one.recv(); err != io.EOF {
		t.Error(err)
	}
	eventually(t, "an ended stream makes room", func() bool { return a.pipelines.Load() == 0 })

	b := startAPI(t, newFakeNode(t), nil)
	cc := b.dial(t)
	for range connPipelines {
		if _, err := b.pipeOver(t, cc).Header(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = b.pipeOver(t, cc).recv()
	full(err)
	if header, err := b.pipe(t).Header(); header == nil {
		t.Errorf("another connection has no stream: %v", err)
	}
}

// A client that asks and does not read its answers is cut off, and told honestly.
func TestPipelineWhoseAnswersAreNotReadIsCut(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.pipes.look, a.pipes.unread = 5*time.Millisecond, 50*time.Millisecond
	p := a.pipe(t)
	if _, err := p.Header(); err != nil {
		t.Fatal(err)
	}
	nobody := &pb.RenewBatchRequest{SessionIds: make([]byte, 16*lease.MaxRenewMany), SessionSecrets: make([]byte, lease.MaxRenewMany)}
	for i := range nobody.SessionIds {
		nobody.SessionIds[i] = 9
	}
	go func() {
		for n := uint64(0); p.Send(&pb.PipelineRequest{Calls: []*pb.PipelineCall{batchOf(n, nobody)}}) == nil; n++ {
		}
	}()
	eventually(t, "the stream is cut", func() bool { return a.pipelines.Load() == 0 })
	var err error
	for err == nil {
		_, err = p.recv()
	}
	if problem, _ := details(status.Convert(err)); problem.GetReason() != string(UnknownOutcome) {
		t.Errorf("it ends with %v", err)
	}
}

func TestIdlePipelineEndsWithoutError(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.pipes.look, a.pipes.idle = 5*time.Millisecond, 50*time.Millisecond
	p := a.pipe(t)
	p.send(asksAs(1, "ann"))
	p.answer()
	if _, err := p.recv(); err != io.EOF {
		t.Errorf("it ends with %v, want EOF", err)
	}
}

func TestPipelineOfAStoppingNodeAnswersWhatIsOnItsWay(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	hold := make(chan struct{})
	node.set(func() { node.holdMany = hold })
	p := a.pipe(t)
	p.send(renewal(1, id, secret))
	eventually(t, "it is on its way", func() bool { node.mu.Lock(); defer node.mu.Unlock(); return node.heldMany == 1 })
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- a.Shutdown(ctx)
	}()
	<-a.stopping
	close(hold)
	if r := p.answer(); r.GetRenewed() == nil {
		t.Error(r)
	}
	if _, err := p.recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("it ends with %v", err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRenewBatchJudgesEachSessionByItself(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	client := pb.NewSeatsClient(a.dial(t))
	id, secret, _ := a.checkout(t, "cad", "ann")
	lostID, lostSecret, _ := a.checkout(t, "solver", "bob")
	if _, err := pb.NewClusterClient(a.dial(t)).Kill(t.Context(), &pb.KillRequest{SessionId: lostID}); err != nil {
		t.Fatal(err)
	}
	batch := pack(t, [2]string{id, secret}, [2]string{id, lostSecret}, [2]string{fmt.Sprintf("%032x", 5), secret}, [2]string{lostID, lostSecret})
	r, err := client.RenewBatch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	want := []pb.RenewResult{pb.RenewResult_RENEW_RESULT_RENEWED, pb.RenewResult_RENEW_RESULT_FORBIDDEN,
		pb.RenewResult_RENEW_RESULT_SESSION_UNKNOWN, pb.RenewResult_RENEW_RESULT_RENEWED_WITH_NEWS}
	if !slices.Equal(r.Results, want) || r.RemainingMs[0] != 120_000 || r.RemainingMs[1] != 0 || r.GraceMs[0] != 120_000 || r.RaftIndex == 0 {
		t.Error(r)
	}
	for name, change := range map[string]func(b *pb.RenewBatchRequest){
		"nothing":              func(b *pb.RenewBatchRequest) { b.Reset() },
		"half an id":           func(b *pb.RenewBatchRequest) { b.SessionIds = b.SessionIds[1:] },
		"secrets cut":          func(b *pb.RenewBatchRequest) { b.SessionSecrets = b.SessionSecrets[1:] },
		"no secrets":           func(b *pb.RenewBatchRequest) { b.SessionSecrets = nil },
		"secrets too long":     func(b *pb.RenewBatchRequest) { b.SessionSecrets = make([]byte, 4*(maxSecret+1)) },
		"too few incarnations": func(b *pb.RenewBatchRequest) { b.Incarnations = []uint64{1} },
		"too many sessions": func(b *pb.RenewBatchRequest) {
			b.SessionIds, b.SessionSecrets = make([]byte, 16*(lease.MaxRenewMany+1)), make([]byte, lease.MaxRenewMany+1)
		},
	} {
		bad := &pb.RenewBatchRequest{SessionIds: slices.Clone(batch.SessionIds), SessionSecrets: slices.Clone(batch.SessionSecrets)}
		change(bad)
		if _, err := client.RenewBatch(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
