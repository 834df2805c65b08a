package fsm_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

func TestEveryFieldOfEveryCommandSurvivesTheLog(t *testing.T) {
	cmds := fsm.EveryCommand()
	if kinds := (&logv1.Command{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields().Len(); kinds != len(cmds) {
		t.Fatalf("the log knows %d kinds of commands, this test %d", kinds, len(cmds))
	}
	data, err := fsm.EncodeBatch(3, 4, 5, cmds)
	if err != nil {
		t.Fatal(err)
	}
	e, err := fsm.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if e.Epoch != 3 || e.Stamp != 4 || e.Calendar != 5 || e.Lead != nil {
		t.Fatalf("entry %v", e)
	}
	var encoded []fsm.Encoded
	for i, want := range cmds {
		if got := fsm.FromCommand(e.Commands[i]); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		one, err := fsm.EncodeCommand(want)
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, one)
	}
	joined, err := fsm.JoinBatch(3, 4, 5, encoded)
	if err != nil || !bytes.Equal(joined, data) {
		t.Errorf("joined of encoded commands: %x, %v\nthe whole at once: %x", joined, err, data)
	}
}

func TestEveryFieldOfEveryRecordSurvivesASnapshot(t *testing.T) {
	for name, r := range fsm.Records() {
		if !reflect.DeepEqual(r[0], r[1]) {
			t.Errorf("%s: got %+v\nwant %+v", name, r[1], r[0])
		}
	}
}

func TestZeroCommandsSurviveTheLog(t *testing.T) {
	for _, c := range fsm.EveryCommand() {
		zero := reflect.Zero(reflect.TypeOf(c)).Interface().(lease.Command)
		data, err := fsm.EncodeBatch(1, 1, 1, []lease.Command{zero})
		if err != nil {
			t.Fatal(err)
		}
		e, err := fsm.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if got := fsm.FromCommand(e.Commands[0]); !reflect.DeepEqual(got, zero) {
			t.Errorf("got %+v, want %+v", got, zero)
		}
	}
}

func TestWhatIsNoEntryIsRefused(t *testing.T) {
	good, _ := fsm.EncodeBatch(1, 1, 1, nil)
	newer := bytes.Clone(good)
	newer[0] = 2
	for name, c := range map[string]struct {
		data    []byte
		corrupt bool
	}{
		"nothing": {nil, true}, "cut short": {good[:4], true}, "not protobuf": {fsm.Sealed([]byte{0xff}), true},
		"a newer version": {newer, false},
	} {
		if _, err := fsm.Decode(c.data); err == nil || errors.Is(err, fsm.ErrCorrupt) != c.corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	unknown := fsm.Sealed(mustMarshal(t, &logv1.Entry{Commands: []*logv1.Command{{}}}))
	var fatal error
	f := fsm.New(fsm.Options{Fatal: func(err error) { fatal = err }})
	f.Apply(&raft.Log{Index: 1, Data: unknown})
	if fatal == nil {
		t.Error("a command of an unknown kind was skipped")
	}
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEntriesAreBounded(t *testing.T) {
	cmds := make([]lease.Command, fsm.MaxBatch+1)
	for i := range cmds {
		cmds[i] = lease.Tick{}
	}
	if _, err := fsm.EncodeBatch(1, 1, 1, cmds); err == nil {
		t.Error("more than MaxBatch commands in an entry")
	}
	if _, err := fsm.EncodeBatch(1, 1, 1, cmds[:fsm.MaxBatch]); err != nil {
		t.Error(err)
	}
	l := licence()
	for size, ok := range map[int]bool{256 << 10: true, fsm.MaxEntryBytes: false} {
		l.Text = []byte(strings.Repeat("x", size))
		data, err := fsm.EncodeBatch(1, 1, 1, []lease.Command{lease.InstallLicence{Licence: l}})
		if (err == nil) != ok || len(data) > fsm.MaxEntryBytes {
			t.Errorf("licence of %d bytes: entry of %d, %v", size, len(data), err)
		}
	}
	// A licence with as many features as one may have fits too.
	l.Text = nil
	for len(l.Entitlements) < lease.MaxEntitlements {
		e := l.Entitlements[0]
		e.Serial = strings.Repeat("s", 64)
		e.Feature = strings.Repeat("f", 64)
		l.Entitlements = append(l.Entitlements, e)
	}
	if _, err := fsm.EncodeBatch(1, 1, 1, []lease.Command{lease.InstallLicence{Licence: l}}); err != nil {
		t.Error(err)
	}
}

// Whatever the log holds, it never panics: neither its decoding nor, behind a right
// checksum, its apply.
func FuzzDecode(f *testing.F) {
	for _, l := range logOf(f, 1, 30) {
		f.Add(l.Data)
		f.Add(l.Data[5:])
	}
	for _, c := range fsm.EveryCommand() {
		data, err := fsm.EncodeBatch(0, 1, 1, []lease.Command{c})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[5:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := fsm.Decode(data); err == nil {
			for _, c := range e.Commands {
				fsm.FromCommand(c)
			}
		}
		m := fsm.New(fsm.Options{Fatal: func(error) {}})
		m.Apply(&raft.Log{Index: 1, Data: fsm.Sealed(data)})
		m.Read(func(b *lease.Book) {
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
		})
	})
}
