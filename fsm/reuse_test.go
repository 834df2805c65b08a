package fsm_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// What an entry is decoded into, and what a command is encoded from, has been another's
// before. Nothing of that may be seen: full commands and empty ones follow each other here.
func TestNothingOfAnEarlierEntryIsLeft(t *testing.T) {
	every := fsm.EveryCommand()
	first := make([][2]fsm.Encoded, len(every)) // of each kind: full, empty; made before anything is used again
	kinds := make([][2]lease.Command, len(every))
	for i, c := range every {
		kinds[i] = [2]lease.Command{c, reflect.Zero(reflect.TypeOf(c)).Interface().(lease.Command)}
	}
	encode := func(kind, empty int) fsm.Encoded {
		one, err := fsm.EncodeCommand(kinds[kind][empty])
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	for i := range every {
		first[i] = [2]fsm.Encoded{encode(i, 0), encode(i, 1)}
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	for round := range 2000 {
		var list []fsm.Encoded
		var want []lease.Command
		for range 1 + rnd.IntN(8) {
			kind, empty := rnd.IntN(5), rnd.IntN(2) // those that are used again are among the first
			if rnd.IntN(10) == 0 {
				kind = rnd.IntN(len(every))
			}
			one := encode(kind, empty)
			if !bytes.Equal(one, first[kind][empty]) {
				t.Fatalf("round %d: %T became %x, at first it was %x", round, kinds[kind][empty], one, first[kind][empty])
			}
			list, want = append(list, one), append(want, kinds[kind][empty])
		}
		data, err := fsm.JoinBatch(uint64(round%3), lease.Time(round%5), lease.Calendar(round%7), list)
		if err != nil {
			t.Fatal(err)
		}
		e := logv1.EntryFromVTPool()
		if err := fsm.DecodeInto(data, e); err != nil {
			t.Fatal(err)
		}
		fresh := &logv1.Entry{}
		if err := proto.Unmarshal(data[fsm.Envelope:], fresh); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(e, fresh) {
			t.Fatalf("round %d: read as\n%v\nwhere a new one is\n%v", round, e, fresh)
		}
		for i, c := range e.Commands {
			if got := fsm.FromCommand(c); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("round %d: got %+v, want %+v", round, got, want[i])
			}
		}
		e.ReturnToVTPool()
	}
}

// What a command keeps must be its own: the entry it was read from becomes another's.
func TestACommandOutlivesItsEntry(t *testing.T) {
	for _, want := range fsm.EveryCommand() {
		data, err := fsm.EncodeBatch(1, 1, 1, []lease.Command{want})
		if err != nil {
			t.Fatal(err)
		}
		e := logv1.EntryFromVTPool()
		if err := fsm.DecodeInto(data, e); err != nil {
			t.Fatal(err)
		}
		got := fsm.FromCommand(e.Commands[0])
		scribble(e.ProtoReflect())
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after its entry was used again: %+v\nwant %+v", got, want)
		}
	}
}

// The heartbeats of an entry are read one after the other into the same memory.
func TestHeartbeatsShareTheirRoom(t *testing.T) {
	var room []lease.Heartbeat
	for n, length := range []int{3, 1, 0, 2, 40, 2} {
		var want lease.RenewMany
		for i := range length {
			want.Sessions = append(want.Sessions, lease.Heartbeat{ID: lease.SessionID{byte(n), byte(i)}, Digest: lease.SecretDigest{byte(i)}, Incarnation: uint64(n)})
		}
		data, err := fsm.EncodeBatch(1, 1, 1, []lease.Command{want})
		if err != nil {
			t.Fatal(err)
		}
		e, err := fsm.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		before := cap(room)
		if got := fsm.CommandIn(&room, e.Commands[0]); !reflect.DeepEqual(got, want) {
			t.Errorf("%d sessions came back as %+v", length, got)
		}
		if length > 0 && length <= before && cap(room) != before {
			t.Errorf("%d sessions got new room, and there was some for %d", length, before)
		}
	}
}

// scribble writes over everything of a message that its next owner may write over: bytes and
// lists, at any depth of what is used again.
func scribble(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				scribble(v.List().Get(i).Message())
			}
		case fd.IsList(), fd.IsMap():
		case fd.Message() != nil:
			if again[fd.Message().Name()] {
				scribble(v.Message())
			}
		case fd.Kind() == protoreflect.BytesKind:
			for i := range v.Bytes() {
				v.Bytes()[i] ^= 0xff
			}
		}
		return true
	})
}

// again are the messages that are used again; fsm/proto/buf.gen.yaml names them.
var again = map[protoreflect.Name]bool{"Entry": true, "Command": true, "Checkout": true, "Renew": true, "CheckIn": true, "RenewMany": true, "SessionRef": true, "Principal": true}
