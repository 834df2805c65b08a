package fsm_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// busy is a snapshot with share groups, several leases a session, and lost ones.
func busy(t testing.TB) []byte {
	f := fsm.New(fsm.Options{})
	for _, l := range logOf(t, 4, 120) {
		f.Apply(l)
	}
	st := f.Status()
	var cmds []lease.Command
	for n := range 4 {
		cmds = append(cmds, lease.Checkout{Session: session(40+n, 1), Principal: lease.Principal{User: "ann", Host: "ws"},
			Items: []lease.Item{{Feature: "cad", Count: 1 + n%2}, {Feature: "solver", Count: 1}}})
	}
	data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now.Add(time.Hour), st.Calendar, cmds)
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(&raft.Log{Index: 1000, Term: st.Epoch.Term, Data: data})
	return bytesOf(t, f)
}

// A snapshot whose records contradict each other is refused, or is a state the rules
// allow; behind a right checksum too it never panics, neither at once nor when used.
func TestInconsistentSnapshotNeverPanics(t *testing.T) {
	snap := busy(t)
	good, err := fsm.OpenSnapshot(snap)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fsm.CloseSnapshot(good), snap) {
		t.Fatal("taking a snapshot apart and together again changed it")
	}
	refused := 0
	trials := 800
	if testing.Short() { // make stories tries all
		trials = 200
	}
	for seed := range uint64(trials) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		recs := make([]*logv1.SnapshotRecord, len(good))
		for i, r := range good {
			recs[i] = proto.CloneOf(r)
		}
		what := damage(rnd, &recs)
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("seed %d: %s: panic: %v", seed, what, r)
				}
			}()
			f := fsm.New(fsm.Options{Fatal: func(error) {}})
			if err := f.Restore(io.NopCloser(bytes.NewReader(fsm.CloseSnapshot(recs)))); err != nil {
				refused++
				return
			}
			use(t, f)
		}()
	}
	if refused < trials/2 {
		t.Errorf("only %d of %d were refused", refused, trials)
	}
}

// use lets every session act and everything expire.
func use(t *testing.T, f *fsm.FSM) {
	st := f.Status()
	f.Read(func(b *lease.Book) {
		b.Leases(lease.Filter{}, 0, 1000)
		b.Pools("")
		b.Alarms()
	})
	cmds := []lease.Command{lease.RemoveLicence{Tenant: "default", ID: "L-1"}, lease.InstallLicence{Licence: licence()}, lease.Fence{}}
	for n := range 60 { // the sessions of busy are among them
		cmds = append(cmds, lease.Renew{Session: session(n, 0)}, lease.Checkout{Session: session(n, 0), Items: []lease.Item{{Feature: "cad", Count: 1}}}, lease.CheckIn{Session: session(n, 0)})
	}
	for i, at := range []lease.Time{st.Now, st.Now.Add(time.Minute), st.Now.Add(72 * time.Hour)} {
		data, err := fsm.EncodeBatch(st.Epoch.Index, at, st.Calendar, append(slices.Clone(cmds), f.Due(100)...))
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(&raft.Log{Index: st.AppliedIndex + uint64(i) + 1, Term: st.Epoch.Term, Data: data})
	}
}

// damage changes one thing.
func damage(rnd *rand.Rand, recs *[]*logv1.SnapshotRecord) string {
	i := rnd.IntN(len(*recs))
	r := (*recs)[i]
	switch rnd.IntN(12) {
	case 0:
		*recs = slices.Delete(*recs, i, i+1)
		return fmt.Sprint("left out ", r)
	case 1:
		*recs = slices.Insert(*recs, i, proto.CloneOf(r))
		return fmt.Sprint("twice ", r)
	case 2:
		j := rnd.IntN(len(*recs))
		(*recs)[i], (*recs)[j] = (*recs)[j], (*recs)[i]
		return fmt.Sprintf("exchanged %d and %d", i, j)
	}
	before := fmt.Sprint(r)
	one := r.ProtoReflect()
	one = one.Get(one.WhichOneof(one.Descriptor().Oneofs().Get(0))).Message()
	scramble(rnd, one)
	return fmt.Sprintf("record %d was %s and is %v", i, before, r)
}

// scramble gives one field another value.
func scramble(rnd *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	fd := fields.Get(rnd.IntN(fields.Len()))
	switch {
	case fd.IsList():
		list := m.Mutable(fd).List()
		switch {
		case list.Len() == 0 || rnd.IntN(3) == 0:
			list.Append(value(rnd, fd, list.NewElement()))
		case rnd.IntN(2) == 0:
			list.Truncate(list.Len() - 1)
		case fd.Message() != nil:
			scramble(rnd, list.Get(rnd.IntN(list.Len())).Message())
		default:
			n := rnd.IntN(list.Len())
			list.Set(n, value(rnd, fd, list.Get(n)))
		}
	case fd.Message() != nil:
		scramble(rnd, m.Mutable(fd).Message())
	default:
		m.Set(fd, value(rnd, fd, m.Get(fd)))
	}
}

func value(rnd *rand.Rand, fd protoreflect.FieldDescriptor, old protoreflect.Value) protoreflect.Value {
	n := []int64{0, 1, 2, 3, 5, 9, 70, 1 << 31, -1, 1 << 62}[rnd.IntN(10)]
	switch fd.Kind() {
	case protoreflect.Uint32Kind:
		if n > 100 { // slots far away only cost memory here
			n = lease.MaxLeases + 1
		}
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!old.Bool())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{"", "x", "cad"}[rnd.IntN(3)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(make([]byte, rnd.IntN(40)))
	}
	return old
}

func TestRestoreSaysWhatIsWrong(t *testing.T) {
	snap := busy(t)
	newer, _ := fsm.OpenSnapshot(snap)
	newer[0].GetHeader().Version = fsm.LatestVersion + 1
	for name, bad := range map[string][]byte{
		"nothing": nil, "another file": []byte("PK\x03\x04 and so on"), "cut short": snap[:len(snap)-1], "magic alone": snap[:8],
		"a newer version": fsm.CloseSnapshot(newer), "no header": fsm.CloseSnapshot(newer[1:]), "empty": fsm.CloseSnapshot(nil),
		"a record too long": append([]byte("SKSNAP01"), 0xff, 0xff, 0xff, 0xff, 0x0f),
	} {
		if err := fsm.New(fsm.Options{Fatal: func(error) {}}).Restore(io.NopCloser(bytes.NewReader(bad))); err == nil {
			t.Errorf("%s was restored", name)
		}
	}
}
