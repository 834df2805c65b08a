package rpc

import (
	"context"
	"encoding/hex"
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

type beatStream = grpc.BidiStreamingClient[pb.HeartbeatsRequest, pb.HeartbeatsResponse]

func (a *api) beats(t *testing.T) beatStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s, err := pb.NewSeatsClient(a.dial(t)).Heartbeats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, s beatStream, r *pb.HeartbeatsRequest) {
	t.Helper()
	if err := s.Send(r); err != nil {
		t.Fatal(err)
	}
}

func recv(t *testing.T, s beatStream) *pb.HeartbeatsResponse {
	t.Helper()
	r, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func single(n uint64, id, secret string) *pb.HeartbeatsRequest {
	return &pb.HeartbeatsRequest{Number: n, Of: &pb.HeartbeatsRequest_Renew{Renew: &pb.RenewRequest{SessionId: id, SessionSecret: secret}}}
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

func TestStreamedHeartbeatsAreAnsweredByNumber(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	id2, secret2, _ := a.checkout(t, "solver", "bob")
	s := a.beats(t)
	send(t, s, single(7, id, secret))
	send(t, s, single(9, id, "wrong"))
	send(t, s, &pb.HeartbeatsRequest{Number: 11})
	send(t, s, &pb.HeartbeatsRequest{Number: 13, Of: &pb.HeartbeatsRequest_Batch{Batch: pack(t, [2]string{id2, secret2})}})
	send(t, s, single(15, "nonsense", secret))
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if r := recv(t, s); r.Number != 7 || len(r.GetRenewed().GetLeases()) != 1 || r.GetRenewed().GetRaftIndex() == 0 {
		t.Errorf("a renewal: %v", r)
	}
	for _, want := range []struct {
		number uint64
		reason lease.Reason
	}{{9, lease.Forbidden}, {11, lease.Invalid}} {
		if r := recv(t, s); r.Number != want.number || r.GetProblem().GetReason() != string(want.reason) {
			t.Errorf("%v: %v", want, r)
		}
	}
	if r := recv(t, s); r.Number != 13 || len(r.GetBatch().GetResults()) != 1 || r.GetBatch().GetRemainingMs()[0] != 120_000 {
		t.Errorf("a batch: %v", r)
	}
	if r := recv(t, s); r.Number != 15 || r.GetProblem().GetReason() != string(lease.Invalid) {
		t.Errorf("nonsense: %v", r)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

// What is on its way at once is proposed together, and no more than the window is.
func TestStreamedHeartbeatsShareEntriesWithinTheWindow(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	s := a.beats(t)
	hold := make(chan struct{})
	node.set(func() { node.holdMany = hold })
	const n = 3 * streamWindow
	go func() {
		for i := range uint64(n) {
			if s.Send(single(i, id, secret)) != nil {
				return
			}
		}
		_ = s.CloseSend()
	}()
	eventually(t, "the first are proposed", func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		return node.heldMany > 0
	})
	close(hold)
	for i := range uint64(n) {
		if r := recv(t, s); r.Number != i || r.GetRenewed() == nil {
			t.Fatalf("answer %d: %v", i, r)
		}
	}
	node.mu.Lock()
	defer node.mu.Unlock()
	if most := slices.Max(node.together); most < 2 || most > streamWindow || len(node.together) > n/2 {
		t.Errorf("proposed together: %v", node.together)
	}
}

func TestStreamOfAFollowerOrALostLeaderEndsWithWhoLeads(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	leads := func(err error) {
		t.Helper()
		_, to := details(status.Convert(err))
		if status.Code(err) != codes.Unavailable || to.GetLeaderAddress() != "10.0.0.2:7800" {
			t.Errorf("got %v, want UNAVAILABLE with the leader's address", err)
		}
	}
	busy, idle := a.beats(t), a.beats(t)
	for _, s := range []beatStream{busy, idle} {
		send(t, s, single(1, id, secret))
		recv(t, s)
	}
	node.set(func() {
		node.leading = false
		node.epoch.Node, node.epoch.APIAddress = "n2-00000002", "10.0.0.2:7800"
	})
	send(t, busy, single(2, id, secret))
	for {
		r, err := busy.Recv()
		if err != nil {
			leads(err)
			break
		}
		if r.GetProblem().GetReason() != string(NotLeader) {
			t.Errorf("answered %v without a leader", r)
		}
	}
	_, err := idle.Recv() // without a request
	leads(err)
	_, err = a.beats(t).Recv()
	leads(err)
}

func TestOutcomeOfAStreamedHeartbeatIsToldHonestly(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	s := a.beats(t)
	node.set(func() { node.failEach = cluster.ErrUnknown })
	send(t, s, single(1, id, secret))
	if r := recv(t, s); r.GetProblem().GetReason() != string(UnknownOutcome) {
		t.Error(r)
	}
	node.set(func() { node.failEach = nil })
	send(t, s, single(2, id, secret))
	if r := recv(t, s); r.GetRenewed() == nil {
		t.Error("the stream does not go on:", r)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Streams = 1 })
	id, secret, _ := a.checkout(t, "cad", "ann")
	one := a.beats(t)
	send(t, one, single(1, id, secret))
	recv(t, one)
	if _, err := a.beats(t).Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream: %v", err)
	}
	_ = one.CloseSend()
	if _, err := one.Recv(); err != io.EOF {
		t.Error(err)
	}
	eventually(t, "an ended stream makes room", func() bool { return a.streams.Load() == 0 })
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
