package rpc

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

// spoiled returns copies of a message, each with another one of its strings no UTF-8. A field
// that holds messages is looked into where the message has some.
func spoiled(m proto.Message) map[string]proto.Message {
	out := make(map[string]proto.Message)
	var walk func(path string, at protoreflect.Message, whole func() proto.Message, find func(proto.Message) protoreflect.Message)
	walk = func(path string, at protoreflect.Message, whole func() proto.Message, find func(proto.Message) protoreflect.Message) {
		fields := at.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			name := path + string(f.Name())
			switch {
			case f.Kind() == protoreflect.StringKind && !f.IsList():
				c := whole()
				find(c).Set(f, protoreflect.ValueOfString("a\xffb"))
				out[name] = c
			case f.Kind() == protoreflect.StringKind:
				panic("teach this test about lists of strings: " + name)
			case f.Kind() == protoreflect.MessageKind && f.IsList() && at.Get(f).List().Len() > 0:
				walk(name+".", at.Get(f).List().Get(0).Message(), whole,
					func(c proto.Message) protoreflect.Message { return find(c).Mutable(f).List().Get(0).Message() })
			}
		}
	}
	walk("", m.ProtoReflect(), func() proto.Message { return proto.Clone(m) }, func(c proto.Message) protoreflect.Message { return c.ProtoReflect() })
	return out
}

// Requests that many calls carry are read by generated code, which does not look whether strings
// are UTF-8. In the ledger one that is not would be in every snapshot and every answer.
func TestStringsOfHotRequestsAreUTF8(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	// It writes what it is given, and reads answers as every client does.
	cc, err := grpc.NewClient("passthrough:///"+a.addr, grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec(func(wire.Fast) bool { return false }))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	seats, stream := pb.NewSeatsClient(cc), a.pipeOver(t, cc)

	id, number := strings.Repeat("ab", 16), uint64(0)
	type request struct {
		valid []proto.Message
		unary func(context.Context, proto.Message) error
		call  func(proto.Message) *pb.PipelineCall
	}
	requests := map[protoreflect.Name]request{
		"CheckoutRequest": {
			[]proto.Message{&pb.CheckoutRequest{Feature: "cad"}, &pb.CheckoutRequest{Items: []*pb.Item{{Feature: "cad"}}}},
			func(ctx context.Context, m proto.Message) error {
				_, err := seats.Checkout(ctx, m.(*pb.CheckoutRequest))
				return err
			},
			func(m proto.Message) *pb.PipelineCall {
				return &pb.PipelineCall{Of: &pb.PipelineCall_Checkout{Checkout: m.(*pb.CheckoutRequest)}}
			},
		},
		"CheckinRequest": {
			[]proto.Message{&pb.CheckinRequest{SessionId: id, SessionSecret: "s"}},
			func(ctx context.Context, m proto.Message) error {
				_, err := seats.Checkin(ctx, m.(*pb.CheckinRequest))
				return err
			},
			func(m proto.Message) *pb.PipelineCall {
				return &pb.PipelineCall{Of: &pb.PipelineCall_Checkin{Checkin: m.(*pb.CheckinRequest)}}
			},
		},
		"RenewRequest": {
			[]proto.Message{&pb.RenewRequest{SessionId: id, SessionSecret: "s"}},
			func(ctx context.Context, m proto.Message) error {
				_, err := seats.Renew(ctx, m.(*pb.RenewRequest))
				return err
			},
			func(m proto.Message) *pb.PipelineCall {
				return &pb.PipelineCall{Of: &pb.PipelineCall_Renew{Renew: m.(*pb.RenewRequest)}}
			},
		},
		"RenewBatchRequest": {
			[]proto.Message{&pb.RenewBatchRequest{SessionIds: make([]byte, 16), SessionSecrets: []byte("s")}},
			func(ctx context.Context, m proto.Message) error {
				_, err := seats.RenewBatch(ctx, m.(*pb.RenewBatchRequest))
				return err
			},
			func(m proto.Message) *pb.PipelineCall {
				return &pb.PipelineCall{Of: &pb.PipelineCall_Batch{Batch: m.(*pb.RenewBatchRequest)}}
			},
		},
		"PipelineRequest": {}, // it carries the others
	}
	tried := 0
	for name, r := range requests {
		for _, valid := range r.valid {
			for field, m := range spoiled(valid) {
				tried++
				before := a.node.commands()
				err := r.unary(t.Context(), m)
				if s := status.Convert(err); s.Code() != codes.InvalidArgument || !utf8.ValidString(s.Message()) {
					t.Errorf("%s.%s is not UTF-8: %v", name, field, err)
				}
				number++
				call := r.call(m)
				call.Number = number
				stream.send(call)
				if p := stream.answer().GetProblem(); p.GetReason() != string(lease.Invalid) {
					t.Errorf("%s.%s is not UTF-8 in a pipeline: %v", name, field, p)
				}
				if a.node.commands() != before {
					t.Errorf("%s.%s is not UTF-8 and reached the log", name, field)
				}
			}
		}
	}
	if tried < 20 {
		t.Errorf("%d fields were tried", tried)
	}
	messages := pb.File_seatkeeper_v1_seats_proto.Messages()
	for i := range messages.Len() {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(messages.Get(i).FullName())
		if err != nil {
			t.Fatal(err)
		}
		_, known := requests[messages.Get(i).Name()]
		if m, fast := kind.New().Interface().(wire.Fast); !fast || looksAtStrings(m) != known {
			t.Errorf("%s: looksAtStrings says %v, and this test knows %v", messages.Get(i).Name(), !known, known)
		}
	}
}
