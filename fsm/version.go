package fsm

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// FirstVersion of the log is what every build understands, the log of a cluster that has
// raised nothing. LatestVersion is the highest that this build understands; it grows by one
// in a build that can write what the build before it cannot read.
const FirstVersion = 1

// since says from which log version on a command may be proposed, by its number in
// Command.kind of log.proto. Every kind has a row. Nothing was released before version 1,
// so all that was there then has it.
var since = map[protowire.Number]uint32{
	1:   1, // checkout
	2:   1, // renew
	3:   1, // check_in
	4:   1, // expire
	5:   1, // expire_session
	6:   1, // kill
	7:   1, // install_licence
	8:   1, // remove_licence
	9:   1, // fence
	10:  1, // tick
	11:  1, // restore_part
	12:  1, // restore
	13:  1, // renew_many
	50:  1, // apply_policy
	60:  1, // leave
	61:  1, // dequeue
	62:  1, // make_booking
	63:  1, // cancel_booking
	64:  1, // expire_booking
	70:  1, // borrow
	71:  1, // renew_borrow
	72:  1, // return_early
	73:  1, // revoke_borrow
	74:  1, // rotate_borrow_key
	100: 1, // create_token
	101: 1, // revoke_token
	130: 1, // raise_version
}

// Needs is the log version that a cluster must have before the command may be proposed.
// A kind without a row is never proposed.
func (e Encoded) Needs() uint32 {
	_, _, n := protowire.ConsumeTag(e)
	if n < 0 {
		return unproposable
	}
	_, m := protowire.ConsumeVarint(e[n:])
	if m < 0 {
		return unproposable
	}
	kind, _, k := protowire.ConsumeTag(e[n+m:])
	if v, ok := since[kind]; ok && k > 0 {
		return v
	}
	return unproposable
}

// unproposable is a version that no cluster has.
const unproposable = 1 << 31

// NewerError is returned for what needs a log version that this build does not understand.
type NewerError struct {
	What               string
	Needs, Understands uint32
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("%s needs log version %d and this build understands %d: run the version that wrote it, or a later one", e.What, e.Needs, e.Understands)
}

// RaiseVersion makes Version what the log may hold from here on, once every member has
// said that it understands it. It never falls. To the rules it is a Tick.
type RaiseVersion struct {
	lease.Tick
	Version uint32
	Told    []ToldVersion
}

// ToldVersion is what a member said of itself before the version was raised.
type ToldVersion struct {
	ID      string // server id
	Version uint32
	Build   string
}

// raise is the last line of defence: a node that was not asked, or lied, stops here, before
// the first entry that it could not read.
func (f *FSM) raise(l *raft.Log, c RaiseVersion) {
	if c.Version > f.opts.Understands {
		f.opts.Fatal(fmt.Errorf("log index %d: %w", l.Index, &NewerError{"the cluster", c.Version, f.opts.Understands}))
		return
	}
	f.setVersion(max(f.status.LogVersion, c.Version))
}

func (f *FSM) setVersion(v uint32) {
	f.status.LogVersion = v
	f.version.Store(v)
}

// LogVersion is what the log may hold now. It takes no lock: every proposal asks.
func (f *FSM) LogVersion() uint32 { return f.version.Load() }

// Understands is the highest log version that this state machine takes.
func (f *FSM) Understands() uint32 { return f.opts.Understands }

// SnapshotVersion reads from the beginning of a snapshot which log version it needs.
func SnapshotVersion(in io.Reader) (uint32, error) {
	r := &recordReader{r: bufio.NewReader(in), crc: crc32.New(castagnoli)}
	magic := make([]byte, len(snapshotMagic))
	if err := r.full(magic); err != nil || string(magic) != snapshotMagic {
		return 0, errNoSnapshot
	}
	rec, err := r.next()
	if err != nil {
		return 0, err
	}
	return rec.GetHeader().GetVersion(), nil
}

// toVersionCommand encodes a command of this file or of the build tagged nextversion, nil
// for any other.
func toVersionCommand(cmd lease.Command) *logv1.Command {
	c, ok := cmd.(RaiseVersion)
	if !ok {
		return toNext(cmd)
	}
	x := &logv1.RaiseVersion{Version: c.Version}
	for _, t := range c.Told {
		x.Told = append(x.Told, &logv1.ToldVersion{Id: t.ID, Version: t.Version, Build: t.Build})
	}
	return &logv1.Command{Kind: &logv1.Command_RaiseVersion{RaiseVersion: x}}
}

// fromVersionCommand gives nil for a command of another file.
func fromVersionCommand(pb *logv1.Command) lease.Command {
	k, ok := pb.GetKind().(*logv1.Command_RaiseVersion)
	if !ok {
		return fromNext(pb)
	}
	c := RaiseVersion{Version: k.RaiseVersion.GetVersion()}
	for _, t := range k.RaiseVersion.GetTold() {
		c.Told = append(c.Told, ToldVersion{ID: t.GetId(), Version: t.GetVersion(), Build: t.GetBuild()})
	}
	return c
}
