package fsm_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Who adds a command says from which log version on it may be proposed.
func TestEveryKindOfCommandSaysWhatItNeeds(t *testing.T) {
	kinds, since := (&logv1.Command{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields(), fsm.Since()
	known := map[protowire.Number]bool{139: true} // of the build with the tag nextversion
	for i := range kinds.Len() {
		k := kinds.Get(i)
		known[k.Number()] = true
		if v := since[k.Number()]; v < fsm.FirstVersion || v > fsm.LatestVersion {
			t.Errorf("%s (%d) has no row with a version from %d to %d in the table of version.go: %d", k.Name(), k.Number(), fsm.FirstVersion, fsm.LatestVersion, v)
		}
	}
	for n := range since {
		if !known[n] {
			t.Errorf("the table of version.go has a row for %d, which is no command", n)
		}
	}
	for _, cmd := range fsm.EveryCommand() {
		e, err := fsm.EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Needs(); got != fsm.FirstVersion {
			t.Errorf("%T needs %d", cmd, got)
		}
	}
}

// A command without a row is never proposed, nor is what is no command.
func TestWhatHasNoRowNeedsMoreThanAnyClusterHas(t *testing.T) {
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), protowire.AppendBytes(protowire.AppendTag(nil, 138, protowire.BytesType), nil))
	for name, e := range map[string]fsm.Encoded{"a kind without a row": unknown, "nothing": nil, "cut short": unknown[:1], "no kind": unknown[:2]} {
		if got := e.Needs(); got <= fsm.LatestVersion+100 {
			t.Errorf("%s needs %d", name, got)
		}
	}
}

// raised is a machine that understands so much, after a log that raises the version to 2.
func raised(t *testing.T, understands uint32) (f *fsm.FSM, fatal *error) {
	t.Helper()
	fatal = new(error)
	f = fsm.New(fsm.Options{Understands: understands, Fatal: func(err error) { *fatal = err }})
	logs := logOf(t, 3, 60)
	for _, l := range logs {
		f.Apply(l)
	}
	if got := f.Status().LogVersion; got != fsm.FirstVersion {
		t.Fatalf("log version %d before anybody raised it", got)
	}
	raise(t, f, 2)
	return f, fatal
}

func raise(t *testing.T, f *fsm.FSM, to uint32) {
	t.Helper()
	st := f.Status()
	data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now.Add(time.Second), st.Calendar,
		[]lease.Command{fsm.RaiseVersion{Version: to, Told: []fsm.ToldVersion{{ID: "n1-00000001", Version: to, Build: "next"}}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(&raft.Log{Index: st.AppliedIndex + 1, Term: st.Epoch.Term, Data: data})
}

func TestRaisedVersionStopsANodeThatDoesNotUnderstandIt(t *testing.T) {
	if _, fatal := raised(t, 2); *fatal != nil {
		t.Fatal(*fatal)
	}
	f, fatal := raised(t, 1)
	if newer := (*fsm.NewerError)(nil); !errors.As(*fatal, &newer) || newer.Needs != 2 || newer.Understands != 1 || strings.Contains((*fatal).Error(), "\n") {
		t.Errorf("a node that understands 1 stops with %v", *fatal)
	}
	if got := f.Status().LogVersion; got != 1 {
		t.Errorf("and believes in %d", got)
	}
}

// It never falls, and it is in every snapshot and backup: who cannot understand what may
// come cannot take part, however it gets there.
func TestRaisedVersionIsInSnapshotsAndBackups(t *testing.T) {
	f, _ := raised(t, 2)
	raise(t, f, 1)
	if got := f.Status().LogVersion; got != 2 {
		t.Fatalf("log version %d after a lower one was proposed", got)
	}
	snap := bytesOf(t, f)
	same := fsm.New(fsm.Options{Understands: 2})
	if err := same.Restore(io.NopCloser(bytes.NewReader(snap))); err != nil || same.Status().LogVersion != 2 || !bytes.Equal(bytesOf(t, same), snap) {
		t.Errorf("restored: %v, log version %d", err, same.Status().LogVersion)
	}

	var fatal error
	old := fsm.New(fsm.Options{Understands: 1, Fatal: func(err error) { fatal = err }})
	for _, l := range logOf(t, 4, 30) {
		old.Apply(l)
	}
	before := bytesOf(t, old)
	err := old.Restore(io.NopCloser(bytes.NewReader(snap)))
	if newer := (*fsm.NewerError)(nil); !errors.As(err, &newer) || fatal == nil {
		t.Errorf("a snapshot of log version 2 on a node that understands 1: %v, stopped by %v", err, fatal)
	}
	if !bytes.Equal(bytesOf(t, old), before) {
		t.Error("and the old state is gone")
	}

	if fsm.LatestVersion > 1 {
		return // this build reads it
	}
	var file bytes.Buffer
	if _, err := f.Backup("n1", "next", time.Unix(0, 0)).WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(io.Reader) (*fsm.Backup, error){"ReadBackup": fsm.ReadBackup, "CheckBackup": fsm.CheckBackup} {
		_, err := read(bytes.NewReader(file.Bytes()))
		if newer := (*fsm.NewerError)(nil); !errors.As(err, &newer) || !strings.HasPrefix(err.Error(), "the backup needs log version 2 and this build understands 1") {
			t.Errorf("%s of a backup of log version 2: %v", name, err)
		}
	}
}
