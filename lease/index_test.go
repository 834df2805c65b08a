package lease

import (
	"hash/maphash"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
	"unsafe"
)

// The index agrees with a map, with a good hash and with bad ones: all in few homes, and
// all with the same first bits, more of them than a mark has.
func TestSlotIndexFindsWhatIsInIt(t *testing.T) {
	seed := maphash.MakeSeed()
	good := func(slot uint32) uint64 { return maphash.Comparable(seed, slot) }
	for name, hash := range map[string]func(slot uint32) uint64{
		"good":            good,
		"few homes":       func(slot uint32) uint64 { return good(slot) &^ 0xfc },
		"same first bits": func(slot uint32) uint64 { return good(slot)>>18 | 0xabcd<<48 },
	} {
		t.Run(name, func(t *testing.T) {
			x, in := newSlotIndex(seed), map[uint32]bool{}
			r := rand.New(rand.NewPCG(1, 2))
			const slots = 3000
			for step := range 30_000 {
				slot := 1 + r.Uint32N(slots)
				switch {
				case !in[slot] && (step < 8000 || r.IntN(2) == 0):
					x.add(hash(slot), slot, hash)
					in[slot] = true
				case in[slot] && r.IntN(3) > 0:
					x.remove(hash(slot), slot)
					delete(in, slot)
				}
				probe := 1 + r.Uint32N(slots)
				found := x.find(hash(probe), func(s uint32) bool { return s == probe })
				if want := in[probe]; (found == probe) != want || !want && found != 0 || x.n != len(in) {
					t.Fatalf("step %d: slot %d found as %d, in it: %v; %d counted of %d", step, probe, found, want, x.n, len(in))
				}
			}
			for slot := range in {
				x.remove(hash(slot), slot)
			}
			for i, table := range x.table {
				if *table != (indexTable{}) || x.used[i] != 0 {
					t.Fatal("removing all leaves something behind")
				}
			}
		})
	}
}

// Rows of the tables that grow with the leases fill an allocator's size class, and hold
// no pointer that the garbage collector would have to follow.
func TestRowsFillTheirPages(t *testing.T) {
	for _, x := range []struct {
		row   any
		bytes uintptr
	}{
		{sessionRow{}, 96}, {leaseRow{}, 48}, {groupRow{}, 16}, {SeatRecord{}, 16},
	} {
		typ := reflect.TypeOf(x.row)
		if typ.Size() != x.bytes {
			t.Errorf("%v has %d bytes, %d expected", typ, typ.Size(), x.bytes)
		}
		for i := range typ.NumField() {
			switch typ.Field(i).Type.Kind() {
			case reflect.Pointer, reflect.Slice, reflect.String, reflect.Map, reflect.Interface, reflect.Struct:
				if typ.Field(i).Type != reflect.TypeFor[Ref]() {
					t.Errorf("%v.%s holds a pointer", typ, typ.Field(i).Name)
				}
			}
		}
	}
	if size := unsafe.Sizeof(indexTable{}); size != 1536 {
		t.Errorf("a table of the index has %d bytes, which is no size class", size)
	}
}

// A flood of equal refusals costs each session a pointer.
func TestEqualRefusalsAreKeptOnce(t *testing.T) {
	b := NewBook()
	for i := range byte(10) {
		c := Checkout{Session: SessionRef{ID: SessionID{1, i}, Seq: 1}, Items: []Item{{Feature: "cad", Count: 1}}}
		if r := b.Apply(1, c); r.Refusal == nil {
			t.Fatal("granted")
		}
	}
	if *b.mores.at(1) != *b.mores.at(10) || *b.mores.at(1) == nil {
		t.Error("the refusals stand apart")
	}
	b.Apply(2, Checkout{Session: SessionRef{ID: SessionID{1, 3}, Seq: 2}, Items: []Item{{Feature: "cam", Count: 1}}})
	for i := range byte(10) {
		want := "no licence of tenant default has the feature cad"
		if i == 3 {
			want = "no licence of tenant default has the feature cam"
		}
		if got := b.last(b.findSession(SessionID{1, i})).Refusal; got == nil || got.Message != want {
			t.Errorf("session %d remembers %+v", i, got)
		}
	}
}

// Clients mint the session ids, so each process hashes them with a seed of its own. Books
// that place everything differently answer alike and are alike.
func TestNothingDependsOnPlacesInTheIndex(t *testing.T) {
	const sessions, steps = 600, 6000
	books := []*Book{NewBook(), NewBook(), NewBook()}
	if books[0].sessionByID.seed == books[1].sessionByID.seed {
		t.Fatal("two ledgers hash alike")
	}
	licence := Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
		{Feature: "cad", Version: "1", Count: 300, Serial: "1", Profile: DefaultProfile, Share: DefaultShareRule},
		{Feature: "cam", Version: "1", Count: 200, Serial: "2", Profile: Profiles["lan"]},
	}}
	r := rand.New(rand.NewPCG(3, 4))
	var now Time
	for step := range steps {
		now = now.Add(time.Duration(r.IntN(200)) * time.Millisecond)
		n := r.IntN(sessions)
		ref := SessionRef{ID: SessionID{byte(n), byte(n >> 8), 9}, Incarnation: 1}
		var cmd Command = InstallLicence{Licence: licence}
		switch k := r.IntN(10); {
		case step == 0:
		case k < 5:
			c := Checkout{Session: ref, Principal: Principal{User: string(rune('a' + n%150)), Host: "h"}, Items: []Item{{Feature: "cad", Count: 1 + n%2}}}
			if n%3 == 0 {
				c.Items = append(c.Items, Item{Feature: "cam", Count: 1})
			}
			cmd = c
		case k < 7:
			cmd = Renew{Session: ref}
		case k < 9:
			cmd = CheckIn{Session: ref, Close: k == 8}
		default:
			cmd = Tick{}
		}
		var first Reply
		var happened []Event
		for i, b := range books {
			b.Advance(now, 1)
			reply := b.Apply(uint64(step+1), cmd)
			if i == 0 {
				first = reply
			} else if !reflect.DeepEqual(reply, first) {
				t.Fatalf("step %d, %#v: %+v and %+v", step, cmd, first, reply)
			}
			if events := b.TakeEvents(); i == 0 {
				happened = events
			} else if !reflect.DeepEqual(events, happened) {
				t.Fatalf("step %d: other events", step)
			}
		}
	}
	if err := books[1].Check(); err != nil {
		t.Fatal(err)
	}
	if len(books[0].sessionByID.table) < 2 || len(books[0].groupByShare.table) < 1 {
		t.Error("too few sessions to be placed differently")
	}
	for _, b := range books[1:] {
		if !reflect.DeepEqual(recordsOf(b), recordsOf(books[0])) {
			t.Error("other records")
		}
	}
}

func recordsOf(b *Book) (out []any) {
	f := b.Freeze()
	f.Sessions(func(i uint32, r *SessionRecord) bool { out = append(out, i, *r); return true })
	f.Groups(func(i uint32, r *GroupRecord) bool { out = append(out, i, *r); return true })
	f.Leases(func(i uint32, r *LeaseRecord) bool { out = append(out, i, *r); return true })
	return append(out, f.Header())
}
