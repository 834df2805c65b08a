package fsm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
)

// kindsDir has one of each kind of command and of snapshot record with all its fields set, a
// line each: "command checkout 0a…". A file is never changed; a new kind goes into a new one.
const kindsDir = "testdata/kinds"

// kindFixtures reads all files: the lines by kind.
func kindFixtures(t *testing.T) map[string][][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(kindsDir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][][]byte{}
	for _, file := range files {
		for line := range strings.Lines(readFixture(t, kindsDir, filepath.Base(file))) {
			words := strings.Fields(line)
			if len(words) != 3 {
				t.Fatalf("%s: %q", file, line)
			}
			data, err := hex.DecodeString(words[2])
			if err != nil {
				t.Fatal(err)
			}
			kind := words[0] + " " + words[1]
			found[kind] = append(found[kind], data)
		}
	}
	return found
}

// kindsOf names the kinds of a message with one oneof.
func kindsOf(what string, m proto.Message) (names []string) {
	fields := m.ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	for i := range fields.Len() {
		names = append(names, what+" "+string(fields.Get(i).Name()))
	}
	return names
}

// kindOf names what is set.
func kindOf(what string, m proto.Message) string {
	if fd := m.ProtoReflect().WhichOneof(m.ProtoReflect().Descriptor().Oneofs().Get(0)); fd != nil {
		return what + " " + string(fd.Name())
	}
	return what
}

// F2: there is a fixture of every kind of command and of snapshot record, and each still is
// read in full: nothing in it is unknown, and it is written again with the same bytes.
func TestEveryKindHasAFixture(t *testing.T) {
	found := kindFixtures(t)
	for _, kind := range append(kindsOf("command", &logv1.Command{}), kindsOf("record", &logv1.SnapshotRecord{})...) {
		if len(found[kind]) == 0 {
			t.Errorf("no fixture of %s: go test ./fsm -run TestWriteKinds -update writes those that are missing into a new file", kind)
		}
	}
	for kind, list := range found {
		for _, data := range list {
			var again []byte
			var err error
			var m proto.Message = &logv1.SnapshotRecord{}
			what, _, _ := strings.Cut(kind, " ")
			if what == "command" {
				m = &logv1.Command{}
			}
			if err := proto.Unmarshal(data, m); err != nil || kindOf(what, m) != kind {
				t.Errorf("%s is read as %s, %v", kind, kindOf(what, m), err)
				continue
			}
			again, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if cmd, ok := m.(*logv1.Command); ok {
				decoded := fsm.FromCommand(cmd)
				if decoded == nil {
					t.Errorf("%s is not understood", kind)
					continue
				}
				again, err = commandBytes(fsm.EncodeCommand(decoded))
			}
			if err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s: %v, read as %v", kind, err, m)
			}
			if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 {
				t.Errorf("%s has what is not known: %x", kind, unknown)
			}
		}
	}
}

// commandBytes drops what an entry puts in front of a command.
func commandBytes(e fsm.Encoded, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	_, _, n := protowire.ConsumeTag(e)
	_, m := protowire.ConsumeVarint(e[n:])
	return e[n+m:], nil
}

func TestWriteKinds(t *testing.T) {
	if !*update {
		t.Skip("run with -update to write the kinds that have no fixture yet")
	}
	found := kindFixtures(t)
	var text bytes.Buffer
	for _, cmd := range fsm.EveryCommand() {
		data, err := commandBytes(fsm.EncodeCommand(cmd))
		m := &logv1.Command{}
		if err == nil {
			err = proto.Unmarshal(data, m)
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind := kindOf("command", m); len(found[kind]) == 0 {
			fmt.Fprintf(&text, "%s %x\n", kind, data)
		}
	}
	fields := (&logv1.SnapshotRecord{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	n := int64(0)
	for i := range fields.Len() {
		m := &logv1.SnapshotRecord{}
		setAll(m.ProtoReflect(), fields.Get(i), &n, 0)
		if kind := kindOf("record", m); len(found[kind]) == 0 {
			fmt.Fprintf(&text, "%s %x\n", kind, mustMarshalAlike(t, m))
		}
	}
	if text.Len() == 0 {
		return
	}
	if err := os.MkdirAll(kindsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 1; ; i++ {
		name := filepath.Join(kindsDir, fmt.Sprintf("%03d.txt", i))
		if _, err := os.Stat(name); err != nil {
			if err := os.WriteFile(name, text.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

func mustMarshalAlike(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// setAll sets a field, and all below it, to values that are not zero.
func setAll(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *int64, depth int) {
	if depth > 6 {
		return
	}
	value := func() protoreflect.Value {
		*n++
		switch fd.Kind() {
		case protoreflect.MessageKind:
			x := m.NewField(fd)
			if fd.IsList() {
				x = x.List().NewElement()
			}
			fields := fd.Message().Fields()
			for i := range fields.Len() {
				setAll(x.Message(), fields.Get(i), n, depth+1)
			}
			return x
		case protoreflect.StringKind:
			return protoreflect.ValueOfString(fmt.Sprint("s", *n))
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte{byte(*n), 1})
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(uint32(*n))
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(uint64(*n))
		}
		return protoreflect.ValueOfInt64(*n) // int64 and sint64
	}
	if !fd.IsList() {
		m.Set(fd, value())
		return
	}
	list := m.Mutable(fd).List()
	for range 2 {
		list.Append(value())
	}
}

// Replicas compare their snapshots by their bytes, also those of two versions during an upgrade: the
// generated code has to write what the library writes.
func TestGeneratedCodeWritesWhatTheLibraryWrites(t *testing.T) {
	type generated interface {
		proto.Message
		UnmarshalVT([]byte) error
		MarshalVTStrict() ([]byte, error)
	}
	tried := 0
	for kind, list := range kindFixtures(t) {
		for _, data := range list {
			var m generated = &logv1.Command{}
			if strings.HasPrefix(kind, "record ") {
				m = &logv1.SnapshotRecord{}
			}
			if err := m.UnmarshalVT(data); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			got, err := m.MarshalVTStrict()
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			library := m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(data, library); err != nil || !proto.Equal(library, m) {
				t.Errorf("%s is read as another message (%v)", kind, err)
			}
			if want := mustMarshalAlike(t, library); !bytes.Equal(got, want) {
				t.Errorf("%s is written as\n%x, by the library as\n%x", kind, got, want)
			}
			tried++
		}
	}
	if tried < 40 {
		t.Errorf("%d kinds were tried", tried)
	}
}
