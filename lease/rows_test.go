package lease

import (
	"reflect"
	"testing"
	"time"
)

// busy has sessions with all that a row can have aside: a share group, many seats, leases
// lost and not told, refusals and check-ins that are remembered.
func busy(t *testing.T) *Book {
	b := NewBook()
	b.Apply(1, InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
		{Feature: "cad", Version: "1", Count: 20, Serial: "1", Profile: DefaultProfile, Share: DefaultShareRule},
		{Feature: "cam", Version: "1", Count: 20, Serial: "2", Profile: Profiles["wan"]},
	}}})
	numbered := func(i int, seq uint64) SessionRef { r := one(i); r.Seq = seq; return r }
	ann := Principal{User: "ann", Host: "ws"}
	for i := range 3 {
		b.Apply(2, Checkout{Session: numbered(i, 1), Principal: ann, Items: []Item{{Feature: "cad", Count: 2 + i}}})
	}
	b.Apply(3, Checkout{Session: numbered(7, 1), Items: []Item{{Feature: "none", Count: 1}}})
	b.Apply(3, Checkout{Session: numbered(8, 1), Items: []Item{{Feature: "cam", Count: 3}, {Feature: "cad", Count: 1}}})
	b.Apply(4, CheckIn{Session: numbered(8, 2), Refs: []Ref{{ID: b.leases.at(4).id(4)}}})
	b.Apply(5, Kill{Refs: []Ref{{ID: b.leases.at(2).id(2)}}})
	if s, l := b.Counts(); s != 5 || l != 3 {
		t.Fatalf("%d sessions and %d leases", s, l)
	}
	return b
}

// A frozen view stays as it is, whatever happens to the ledger.
func TestFrozenViewStaysAsItIs(t *testing.T) {
	b := busy(t)
	dump := func(f *Frozen) (out []any) {
		f.Sessions(func(i uint32, r *SessionRecord) bool { out = append(out, i, *r); return true })
		f.Groups(func(i uint32, r *GroupRecord) bool { x := *r; out = append(out, i, x); return true })
		f.Leases(func(i uint32, r *LeaseRecord) bool { out = append(out, i, *r); return true })
		f.Pools(func(i uint32, p *PoolRecord) bool {
			p.EachSeat(func(n uint32, s SeatRecord) bool { out = append(out, n, s); return true })
			return true
		})
		return append(out, f.Header())
	}
	f := b.Freeze()
	before := dump(f)
	end(b)
	if !reflect.DeepEqual(dump(f), before) {
		t.Error("the view changed")
	}
	if reflect.DeepEqual(dump(b.Freeze()), before) {
		t.Error("the ledger did not")
	}
}

// end lets everything run out.
func end(b *Book) {
	b.Apply(8, Checkout{Session: one(0), Items: []Item{{Feature: "cam", Count: 2}}})
	for range 3 {
		b.Advance(b.Now().Add(2*time.Hour), 0)
		for _, c := range b.Due(100) {
			b.Apply(9, c)
		}
	}
}

// What stands aside goes with its row.
func TestNothingIsLeftOfWhatIsGone(t *testing.T) {
	b := busy(t)
	used := func() (n int) {
		b.owners.all(func(_ uint32, o *owner) bool { n += len(*o); return true })
		b.mores.all(func(_ uint32, m **sessionMore) bool {
			if *m != nil {
				n++
			}
			return true
		})
		b.groupMany.all(func(_ uint32, m **manyOf) bool {
			if *m != nil {
				n++
			}
			return true
		})
		return n + len(b.spanUse.at) + b.sessionByID.n + b.groupByShare.n + b.dueLeases.n + b.dueSessions.n
	}
	if used() < 20 {
		t.Fatal("too little is there to begin with")
	}
	end(b)
	if s, l := b.Counts(); s != 0 || l != 0 || used() != 0 {
		t.Errorf("%d sessions, %d leases, %d things left", s, l, used())
	}
}
