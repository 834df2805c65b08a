package fsm_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// borrowing makes a command of borrowing that fits what is there.
func borrowing(f *fsm.FSM, rnd *rand.Rand, s int) lease.Command {
	var some lease.Lease
	f.Read(func(b *lease.Book) {
		if all, _ := b.Leases(lease.Filter{State: lease.Borrowed}, 0, 20); len(all) > 0 {
			some = all[rnd.IntN(len(all))]
		}
	})
	term := time.Duration(1+rnd.IntN(60)) * time.Second
	switch rnd.IntN(8) {
	case 0:
		return lease.RenewBorrow{Ref: some.Ref, For: term}
	case 1:
		return lease.ReturnEarly{Ref: some.Ref}
	case 2:
		return lease.RevokeBorrow{ID: some.ID, AtOnce: rnd.IntN(2) == 0, By: "root"}
	case 3:
		n := rnd.IntN(30)
		return lease.RotateBorrowKey{Kid: fmt.Sprint("r", n), Public: [32]byte{byte(n), 3}, Seed: [32]byte{byte(n), 4}}
	}
	return lease.Borrow{Session: session(s, 0), Principal: lease.Principal{User: fmt.Sprint("u", s%4), Host: "h"}, InstanceID: fmt.Sprint(s),
		Item: lease.Item{Feature: "cam", Count: 1}, For: term}
}

// The histories of this room's tests come to all that borrowing has to keep.
func TestHistoriesHaveBorrowedSeats(t *testing.T) {
	found := map[string]int{}
	for seed := range uint64(5) {
		f := fsm.New(fsm.Options{})
		for _, l := range logOf(t, seed, 200) {
			f.Apply(l)
			recs, err := fsm.OpenSnapshot(bytesOf(t, f))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range recs {
				switch k := r.Kind.(type) {
				case *logv1.SnapshotRecord_Pin:
					found[fmt.Sprint("pin, revoked ", k.Pin.Revoked)]++
				case *logv1.SnapshotRecord_BorrowKey:
					found[fmt.Sprint("key, signs ", len(k.BorrowKey.Seed) > 0)]++
				case *logv1.SnapshotRecord_Overdrawn:
					found["overdrawn"]++
				}
			}
		}
	}
	for _, want := range []string{"pin, revoked false", "pin, revoked true", "key, signs true", "key, signs false", "overdrawn"} {
		if found[want] == 0 {
			t.Errorf("no history has %q: %v", want, found)
		}
	}
}

// What is said of an entry, or of the whole state, does not show the private half of a key.
func TestAuditShowsNoPrivateHalf(t *testing.T) {
	cmd := lease.RotateBorrowKey{Kid: "k1", By: "root"}
	for i := range cmd.Seed {
		cmd.Public[i], cmd.Seed[i] = byte(i), byte(0xc0+i)
	}
	f := fsm.New(fsm.Options{})
	var said []string
	var epoch uint64
	apply := func(data []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		l := &raft.Log{Index: uint64(len(said) + 1), Term: 1, Data: data}
		e, err := fsm.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		o := f.Apply(l).(fsm.Outcome)
		epoch = o.Epoch.Index
		line, err := json.Marshal(fsm.Audit(l, e, o, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, string(line))
	}
	apply(fsm.EncodeLead(fsm.Lead{Node: "n1", ClusterID: "c1"}, launch))
	apply(fsm.EncodeBatch(epoch, 5, launch, []lease.Command{cmd}))
	if !strings.Contains(said[1], `"rotate_borrow_key"`) || !strings.Contains(said[1], `"k1"`) {
		t.Fatal(said[1])
	}
	f.Read(func(b *lease.Book) {
		said = append(said, string(fsm.AuditState(f.Status(), b)), fmt.Sprintf("%+v", b.BorrowKeys()))
	})
	for _, line := range said {
		for _, enc := range []string{hex.EncodeToString(cmd.Seed[:]), base64.StdEncoding.EncodeToString(cmd.Seed[:]), base64.RawURLEncoding.EncodeToString(cmd.Seed[:]), "192 193 194"} {
			if strings.Contains(line, enc) {
				t.Errorf("shown in %s", line)
			}
		}
	}
}
