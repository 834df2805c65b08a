package rpc

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// A stream reads its calls into memory that earlier calls had, and so are its answers made. A
// stream for each call has none: what is proposed and answered must be the same. The calls
// say much and little in turn, and what was proposed is looked at when all is over.
func TestNothingOfAnEarlierCallIsLeft(t *testing.T) {
	session := func(digit string) (id, secret string) { return strings.Repeat(digit, 32), strings.Repeat(digit, 32) }
	a, aSecret := session("a")
	b, bSecret := session("b")
	two, idle := int32(2), uint64(5000)
	calls := func() []*pb.PipelineCall {
		return []*pb.PipelineCall{
			asks(1, &pb.CheckoutRequest{Items: []*pb.Item{{Feature: "cad", Version: "2025.0", Count: 2}, {Feature: "mesh", Count: 1}, {Feature: "solver", Count: 3}},
				User: "ann", Host: "ws1", Display: ":0", VendorDefined: "v", Project: "p", InstanceId: "i1", SessionId: a, SessionSecret: aSecret, Seq: 1, Partial: true}),
			asks(2, &pb.CheckoutRequest{Feature: "cad", SessionId: b, SessionSecret: bSecret, Seq: 1}),
			renewal(3, b, bSecret),
			{Number: 4, Of: &pb.PipelineCall_Renew{Renew: &pb.RenewRequest{SessionId: a, SessionSecret: aSecret, IdleMs: &idle,
				Held: []*pb.LeaseRef{{Id: 77, FencingToken: 78}, {Id: 79}}}}},
			renewal(5, b, bSecret),
			asks(6, &pb.CheckoutRequest{Feature: "mesh", User: "bob", SessionId: b, SessionSecret: bSecret, Seq: 2}), // all are taken
			batchOf(7, pack(t, [2]string{a, aSecret}, [2]string{b, bSecret}, [2]string{strings.Repeat("c", 32), aSecret})),
			batchOf(8, pack(t, [2]string{b, bSecret})),
			asks(9, &pb.CheckoutRequest{Feature: "solver", Count: &two, Project: "q", SessionId: b, SessionSecret: bSecret, Seq: 3}),
			returns(10, &pb.CheckinRequest{SessionId: a, SessionSecret: aSecret, Seq: 2, Refs: []*pb.LeaseRef{{Id: 1, FencingToken: 1}, {Id: 2, FencingToken: 2}}}),
			returns(11, &pb.CheckinRequest{SessionId: a, SessionSecret: aSecret, Seq: 3, Close: true}),
			returns(12, &pb.CheckinRequest{SessionId: b, SessionSecret: bSecret, Seq: 4}),
			asks(13, &pb.CheckoutRequest{Feature: strings.Repeat("n", 200)}),
			returns(14, &pb.CheckinRequest{SessionId: b, SessionSecret: bSecret, Seq: 5, Close: true}),
		}
	}
	run := func(alone bool) (proposed []lease.Command, answers []*pb.PipelineAnswer) {
		s := startAPI(t, newFakeNode(t), nil)
		first := len(s.node.proposed)
		p := s.pipe(t)
		for _, c := range calls() {
			if alone {
				p = s.pipe(t)
			}
			p.send(c)
			answers = append(answers, p.answer())
		}
		s.node.mu.Lock()
		defer s.node.mu.Unlock()
		return s.node.proposed[first:], answers
	}
	want, wantAnswers := run(true)
	got, gotAnswers := run(false)
	if len(want) < 12 {
		t.Errorf("%d of %d calls were proposed", len(want), len(calls()))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("one stream proposed\n%+v\nand a stream for each call\n%+v", got, want)
	}
	for i := range wantAnswers {
		if !proto.Equal(gotAnswers[i], wantAnswers[i]) {
			t.Errorf("one stream answered\n%v\nand a stream of its own\n%v", gotAnswers[i], wantAnswers[i])
		}
	}
}

// The secret of a new session is told to whoever opened it, and to nobody whose answer is made in
// the same memory.
func TestASecretIsToldToItsSessionOnly(t *testing.T) {
	p := startAPI(t, newFakeNode(t), nil).pipe(t)
	id, secret := strings.Repeat("a", 32), strings.Repeat("b", 32)
	p.send(asks(1, &pb.CheckoutRequest{Feature: "cad", User: "ann", SessionId: id, SessionSecret: secret, Seq: 1}))
	if a := p.answer(); a.GetCheckout() == nil {
		t.Fatalf("no seat: %v", a)
	}
	for n := range uint64(20) {
		p.send(asks(10+n, &pb.CheckoutRequest{Feature: "nothing", User: "bob"}), asks(50+n, &pb.CheckoutRequest{Feature: "solver", User: "eve"}))
		for _, a := range p.answers(2) {
			if told := a.GetCheckout().GetSession().GetSecret(); n == 0 && a.Number == 50 && told == "" {
				t.Fatalf("a new session was told no secret: %v", a)
			}
		}
		p.send(renewal(100+n, id, secret))
		if a := p.answer(); a.GetRenewed() == nil || a.GetRenewed().GetSession().GetSecret() != "" {
			t.Fatalf("a renewal is answered with %v", a)
		}
	}
}
