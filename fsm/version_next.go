//go:build nextversion

package fsm

import (
	"google.golang.org/protobuf/encoding/protowire"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Builds with the tag "nextversion" are what tests upgrade to: they know one command more.

// LatestVersion of the log that this build understands.
const LatestVersion = 2

// noteKind is the number of Note among the commands. It is not in log.proto, so that a
// build without the tag meets it as it will meet what comes after it.
const noteKind = 139

func init() { since[noteKind] = 2 }

// Note puts a text into the log and changes nothing. To the rules it is a Tick.
type Note struct {
	lease.Tick
	Text string
}

func toNext(cmd lease.Command) *logv1.Command {
	note, ok := cmd.(Note)
	if !ok {
		return nil
	}
	x := &logv1.Command{}
	x.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, noteKind, protowire.BytesType), note.Text))
	return x
}

func fromNext(pb *logv1.Command) lease.Command {
	raw := pb.ProtoReflect().GetUnknown()
	kind, _, n := protowire.ConsumeTag(raw)
	if n < 0 || kind != noteKind {
		return nil
	}
	text, m := protowire.ConsumeString(raw[n:])
	if m < 0 {
		return nil
	}
	return Note{Text: text}
}

// isNext says whether the command is one that changes nothing.
func isNext(cmd lease.Command) bool {
	_, ok := cmd.(Note)
	return ok
}
