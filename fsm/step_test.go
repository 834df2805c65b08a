package fsm_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Who looks at each command sees the ledger as that command left it, with what it brought,
// and changes nothing by looking.
func TestEachCommandOfAnEntryIsToldByItself(t *testing.T) {
	live, several := 0, 0
	var replies []lease.Reply
	var told, all []lease.Event
	looked := fsm.New(fsm.Options{
		Step: func(l *raft.Log, _ *logv1.Command, r lease.Reply, b *lease.Book, events []lease.Event) {
			replies, told = append(replies, r), append(told, events...)
			for _, e := range events {
				switch e.Kind {
				case lease.Granted:
					live++
				case lease.Ended:
					live--
				}
			}
			if _, leases := b.Counts(); leases != live {
				t.Fatalf("entry %d: %d leases after a command that left %d", l.Index, leases, live)
			}
		},
		Observe: func(l *raft.Log, _ *logv1.Entry, o fsm.Outcome, _ *lease.Book, events []lease.Event) {
			if len(replies) != len(o.Replies) || len(replies) > 0 && !reflect.DeepEqual(replies, o.Replies) {
				t.Fatalf("entry %d: %d commands were told of %d", l.Index, len(replies), len(o.Replies))
			}
			if len(told)+len(events) > 0 && !reflect.DeepEqual(told, events) {
				t.Fatalf("entry %d: %d events were told of %d", l.Index, len(told), len(events))
			}
			if len(replies) > 1 {
				several++
			}
			all, replies, told = append(all, events...), nil, nil
		},
	})
	var alone []lease.Event
	plain := fsm.New(fsm.Options{Observe: func(_ *raft.Log, _ *logv1.Entry, _ fsm.Outcome, _ *lease.Book, events []lease.Event) {
		alone = append(alone, events...)
	}})
	for _, l := range logOf(t, 17, 300) {
		looked.Apply(l)
		plain.Apply(l)
	}
	if several < 50 || len(all) < 100 {
		t.Fatalf("%d entries of several commands, %d events: too little happened", several, len(all))
	}
	if !reflect.DeepEqual(all, alone) || !bytes.Equal(bytesOf(t, looked), bytesOf(t, plain)) {
		t.Error("looking at each command changed what happened")
	}
}
