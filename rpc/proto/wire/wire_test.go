package wire_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

// Small enough for a buffer of its own, and large enough for gRPC's pool; hot and not.
func messages() []proto.Message {
	until, over := "2026-01-02T03:04:05Z", true
	answer := &pb.CheckoutResponse{Session: &pb.Session{Id: "s", Secret: "x", Incarnation: 1 << 60, HeartbeatMs: 40000}, RaftIndex: 7, Term: 1, Replayed: true}
	for i := range 40 {
		answer.Leases = append(answer.Leases, &pb.Lease{Id: uint64(i) << 40, Handle: 1, Feature: "cäd", Count: -1, Seats: []int32{0, 1, 300}, Until: &until, Overdraft: &over})
	}
	batch := &pb.PipelineResponse{}
	for i := range 20 {
		batch.Answers = append(batch.Answers, &pb.PipelineAnswer{Number: uint64(i), Of: &pb.PipelineAnswer_Checkout{Checkout: answer}},
			&pb.PipelineAnswer{Number: uint64(i), Of: &pb.PipelineAnswer_Problem{Problem: &pb.Problem{Reason: "no_seat", Final: true}}, NotLeader: &pb.NotLeader{Leader: "a"}},
			&pb.PipelineAnswer{Of: &pb.PipelineAnswer_Batch{Batch: &pb.RenewBatchResponse{Results: []pb.RenewResult{1, 2, 3}}}})
	}
	return []proto.Message{&pb.CheckoutRequest{}, answer, batch, &pb.StatusRequest{Tenant: "t"}}
}

func TestCodecWritesAndReadsAsTheLibraryDoes(t *testing.T) {
	ours, library := wire.NewCodec(nil), encoding.GetCodecV2("proto")
	none := wire.NewCodec(func(wire.Fast) bool { return false })
	if ours.Name() != library.Name() {
		t.Errorf("the codec is called %q: a node would not know it", ours.Name())
	}
	for _, m := range messages() {
		t.Run(fmt.Sprintf("%T", m), func(t *testing.T) {
			got, err := ours.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			data := got.Materialize()
			if len(data) != len(want) || wire.Size(m) != len(want) {
				t.Fatalf("%d bytes, size says %d, the library writes %d", len(data), wire.Size(m), len(want))
			}
			for name, c := range map[string]encoding.CodecV2{"generated": ours, "the library, by ours": none, "the library": library} {
				back := m.ProtoReflect().New().Interface()
				for _, written := range [][]byte{data, want} {
					proto.Reset(back)
					if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(written)}, back); err != nil || !proto.Equal(back, m) {
						t.Errorf("read by %s: %v, %v", name, err, back)
					}
				}
				if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(append(want[:len(want):len(want)], 0xff))}, back); err == nil {
					t.Errorf("half a field was read by %s", name)
				}
			}
			got.Free()
		})
	}
}
