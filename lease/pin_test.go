package lease

import (
	"slices"
	"testing"
	"time"
)

// pinned is a ledger in which session 1 holds one of two seats by a lease at slot 1 that
// is pinned as p says, and cam by an ordinary one.
func pinned(t *testing.T, p Pin) *Book {
	t.Helper()
	b := NewBook()
	b.Apply(1, InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
		{Feature: "cad", Version: "1", Count: 2, Serial: "1", Profile: DefaultProfile},
		{Feature: "cam", Version: "1", Count: 2, Serial: "2", Profile: DefaultProfile},
	}}})
	if r := b.Apply(2, Checkout{Session: one(1), Items: []Item{{Feature: "cad", Count: 1}, {Feature: "cam", Count: 1}}}); r.Refusal != nil {
		t.Fatal(r.Refusal)
	}
	b.pin(1, p)
	return check(t, b)
}

func check(t *testing.T, b *Book) *Book {
	t.Helper()
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Book) pass(d time.Duration) (ended []Event) {
	b.TakeEvents()
	b.Advance(b.Now().Add(d), 0)
	for _, c := range b.Due(100) {
		b.Apply(9, c)
	}
	for _, e := range b.TakeEvents() {
		if e.Kind == Ended {
			ended = append(ended, e)
		}
	}
	return ended
}

func TestPinnedLeaseEndsAtItsTime(t *testing.T) {
	term := DefaultProfile.Lifespan + DefaultProfile.Grace
	for _, c := range []struct {
		name  string
		pin   Pin
		state State
		why   Release
	}{
		{"borrowed, later than its heartbeat says", Pin{Kind: PinBorrowed, End: Time(5 * term)}, Borrowed, ReleasedTimeout},
		{"borrowed, earlier", Pin{Kind: PinBorrowed, End: Time(term / 4)}, Borrowed, ReleasedTimeout},
		{"lingering", Pin{Kind: PinLingering, End: Time(term / 4)}, Lingering, ReleasedLingerOver},
		{"quarantined", Pin{Kind: PinBorrowed, Revoked: true, End: Time(5 * term)}, Quarantined, ReleasedByAdmin},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := pinned(t, c.pin)
			shown, _ := b.Leases(Filter{State: c.state}, 0, 10)
			if len(shown) != 1 || shown[0].State != c.state || shown[0].Remaining != time.Duration(c.pin.End) || shown[0].Grace != 0 {
				t.Errorf("shown as %+v", shown)
			}
			b.pass(time.Duration(c.pin.End) - 1)
			if b.Pools("")[0].InUse != 1 || b.lookup(b.leases.at(1).id(1)) == 0 {
				t.Fatal("it ended before its time")
			}
			ended := b.pass(1)
			if len(ended) != 1 || ended[0].Feature != "cad" || ended[0].Release != c.why {
				t.Errorf("%+v ended, want the pinned lease by %v", ended, c.why)
			}
			check(t, b)
		})
	}
}

func TestNoHeartbeatMovesAPin(t *testing.T) {
	b := pinned(t, Pin{Kind: PinBorrowed, End: Time(100 * time.Second)})
	b.pass(90 * time.Second)
	r := b.Apply(3, Renew{Session: one(1)})
	if len(r.Leases) != 2 || r.Leases[0].Remaining != 10*time.Second || r.Leases[1].Remaining != DefaultProfile.Lifespan {
		t.Errorf("%+v", r.Leases)
	}
	if ended := b.pass(10 * time.Second); len(ended) != 1 || ended[0].Feature != "cad" {
		t.Errorf("%+v ended", ended)
	}
}

func TestPinnedLeaseOutlivesItsSession(t *testing.T) {
	for _, how := range []string{"closed", "silent"} {
		t.Run(how, func(t *testing.T) {
			b := pinned(t, Pin{Kind: PinBorrowed, End: Time(time.Hour)})
			if how == "closed" {
				if r := b.Apply(3, CheckIn{Session: one(1), Close: true}); r.Refusal != nil || len(r.Released) != 1 || r.Released[0].Feature != "cam" {
					t.Fatalf("%+v", r)
				}
				if r := b.Apply(4, Checkout{Session: one(1), Items: []Item{{Feature: "cam", Count: 1}}}); r.Refusal == nil {
					t.Error("a closed session was taken up again")
				}
			}
			b.pass(time.Hour - 1)
			if sessions, leases := check(t, b).Counts(); leases != 1 || how == "closed" && sessions != 0 {
				t.Fatalf("%d sessions, %d leases", sessions, leases)
			}
			b.pass(1)
			b.pass(time.Hour)
			if sessions, leases := check(t, b).Counts(); sessions+leases != 0 || b.sessionByID.n != 0 {
				t.Errorf("%d sessions and %d leases are left, %d remembered", sessions, leases, b.sessionByID.n)
			}
		})
	}
}

// What is lingering or quarantined is not the session's any more.
func TestUnclaimedLeaseIsNotHeld(t *testing.T) {
	for _, p := range []Pin{{Kind: PinLingering, End: Time(time.Hour)}, {Kind: PinBorrowed, Revoked: true, End: Time(time.Hour)}} {
		b := pinned(t, p)
		l := b.show(1)
		if _, ok := b.Verify(l.Ref); ok {
			t.Errorf("%v is verified", l.State)
		}
		if r := b.Apply(3, Renew{Session: one(1), Held: []Ref{l.Ref}}); len(r.Leases) != 1 || len(r.Lost) != 1 || r.Lost[0].ID != l.ID {
			t.Errorf("%v: heartbeat says %+v, lost %+v", l.State, r.Leases, r.Lost)
		}
		if r := b.Apply(3, CheckIn{Session: one(1), Refs: []Ref{l.Ref}}); r.Refusal == nil || r.Refusal.Reason != Fenced {
			t.Errorf("%v: checked in: %+v", l.State, r)
		}
		if r := b.Apply(4, Checkout{Session: one(1), Items: []Item{{Feature: "cad", Count: 1}}}); r.Refusal != nil || r.Leases[0].ID == l.ID {
			t.Errorf("%v: asked again: %+v", l.State, r)
		}
		check(t, b)
	}
}

func TestUnpinnedLeaseGoesByTheHeartbeatAgain(t *testing.T) {
	b := pinned(t, Pin{Kind: PinLingering, End: Time(time.Hour)})
	b.unpin(1)
	check(t, b)
	if ended := b.pass(DefaultProfile.Lifespan + DefaultProfile.Grace); len(ended) != 2 {
		t.Errorf("%d leases ended, want both", len(ended))
	}
	if b.pinAt(1) != nil {
		t.Error("its pin is left")
	}
}

func TestDamagedPinsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		pins []PinRecord
		ok   bool
	}{
		{"whole", []PinRecord{{1, Pin{Kind: PinLingering, End: 5}}}, true},
		{"of no lease", []PinRecord{{9, Pin{Kind: PinLingering, End: 5}}}, false},
		{"twice", []PinRecord{{1, Pin{Kind: PinLingering, End: 5}}, {1, Pin{Kind: PinLingering, End: 5}}}, false},
		{"of no kind", []PinRecord{{1, Pin{End: 5}}}, false},
		{"lingering and revoked", []PinRecord{{1, Pin{Kind: PinLingering, End: 5, Revoked: true}}}, false},
		{"in negative time", []PinRecord{{1, Pin{Kind: PinBorrowed, End: -1}}}, false},
	} {
		f := pinned(t, Pin{Kind: PinBorrowed, End: 1}).Freeze()
		load := NewLoader(f.Header())
		for _, x := range f.Licences() {
			load.Licence(x)
		}
		f.Pools(func(i uint32, p *PoolRecord) bool { load.Pool(i, *p); return true })
		f.Sessions(func(i uint32, r *SessionRecord) bool { load.Session(i, *r); return true })
		f.Groups(func(i uint32, r *GroupRecord) bool { load.Group(i, *r); return true })
		f.Leases(func(i uint32, r *LeaseRecord) bool { load.Lease(i, *r); return true })
		for _, p := range c.pins {
			load.Pin(p)
		}
		if _, err := load.Finish(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A restore keeps what holders offline were told since the backup, and ends none early.
func TestRestoredLedgerKeepsPins(t *testing.T) {
	for _, known := range []bool{true, false} {
		backup := pinned(t, Pin{Kind: PinBorrowed, End: Time(time.Hour)})
		later := pinned(t, Pin{Kind: PinBorrowed, End: Time(time.Hour)})
		later.Advance(Time(10*time.Minute), 0)
		later.pin(1, Pin{Kind: PinBorrowed, End: Time(2 * time.Hour)})
		backup.Resume(later, known)
		want := Time(2 * time.Hour)
		if !known {
			want = Time(70 * time.Minute) // none of the ten minutes is known to have passed
		}
		if got := backup.pinAt(1).End; got != want {
			t.Errorf("known %v: ends at %v, want %v", known, time.Duration(got), time.Duration(want))
		}
		check(t, backup)
	}
}

// What was borrowed since the backup stays charged until its token is over, also where the
// backup's cluster was another one; nobody can act through it.
// What a restore brings back for a borrower is the very seat that its token names: another
// number would let somebody else believe in it.
func TestRestoreKeepsTheNumbersOfBorrowedSeats(t *testing.T) {
	ledger := func() *Book {
		b := NewBook()
		b.Apply(1, InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
			{Feature: "cad", Version: "1", Count: 5, Serial: "1", Profile: DefaultProfile, Terms: Terms{BorrowHours: 100}},
		}}})
		b.Apply(2, RotateBorrowKey{Kid: "k", Public: [32]byte{1}, Seed: [32]byte{2}})
		return b
	}
	backup, later := ledger(), ledger()
	later.Apply(3, Checkout{Session: one(1), Principal: Principal{User: "bob", Host: "ws"}, Items: []Item{{Feature: "cad", Count: 2}}})
	lent := later.Apply(4, Borrow{Session: one(2), Principal: Principal{User: "ann", Host: "ws"}, Item: Item{Feature: "cad", Count: 2}, For: time.Hour}).Leases[0]
	backup.Resume(later, true)
	check(t, backup)
	list, _ := backup.Leases(Filter{State: Quarantined}, 0, 10)
	if len(list) != 1 || !slices.Equal(list[0].Seats, lent.Seats) || slices.Equal(lent.Seats, []int{1, 2}) {
		t.Errorf("seats %v were borrowed, %+v is kept", lent.Seats, list)
	}
}

func TestRestoreKeepsSeatsThatWereBorrowedSince(t *testing.T) {
	for _, share := range []ShareRule{{}, DefaultShareRule} {
		for _, known := range []bool{true, false} {
			terms := Terms{BorrowHours: 100}
			ledger := func() *Book {
				b := NewBook()
				b.Apply(1, InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
					{Feature: "cad", Version: "1", Count: 2, Serial: "1", Profile: DefaultProfile, Share: share, Terms: terms},
					{Feature: "units", Version: "1", Count: 9, Serial: "2", Profile: DefaultProfile},
					{Feature: "cam", Version: "1", Serial: "3", Profile: DefaultProfile, Terms: Terms{Uncounted: true, BorrowHours: 5, Draw: Draw{Of: "units", Cost: 3, Per: 1}}},
				}}})
				b.Apply(2, RotateBorrowKey{Kid: "k", Public: [32]byte{1}, Seed: [32]byte{2}})
				return b
			}
			backup, later := ledger(), ledger()
			ann := Principal{User: "ann", Host: "ws"}
			later.Advance(Time(time.Minute), 0)
			var refs []Ref
			for i, name := range []string{"cad", "cam"} {
				r := later.Apply(3, Borrow{Session: one(i), Principal: ann, Item: Item{Feature: name, Count: 1}, For: time.Hour})
				if r.Refusal != nil {
					t.Fatal(r.Refusal)
				}
				refs = append(refs, r.Leases[0].Ref)
			}
			backup.Resume(later, known)
			check(t, backup)
			if events := backup.TakeEvents(); len(events) != 2 || events[0].Kind != Granted || events[1].Kind != Granted {
				t.Errorf("known %v: what is brought back is charged from now on, and the events are %+v", known, events)
			}
			used := map[string]int{}
			for _, p := range backup.Pools("") {
				used[p.Feature] = p.InUse
			}
			if used["cad"] != 1 || used["units"] != 3 {
				t.Errorf("known %v: in use %v", known, used)
			}
			list, _ := backup.Leases(Filter{State: Quarantined}, 0, 10)
			if len(list) != 2 || list[0].Remaining != time.Hour || list[0].Principal != ann {
				t.Errorf("known %v: %+v", known, list)
			}
			for _, ref := range refs {
				if r := backup.Apply(9, ReturnEarly{Ref: ref}); r.Refusal == nil {
					t.Error("a lease of the old ledger was returned")
				}
			}
			if events := later.TakeEvents(); len(events) != 4 {
				t.Errorf("the old ledger tells of %d events, want two leases that began and ended", len(events))
			}
			backup.pass(time.Hour - 1)
			if ended := backup.pass(1); len(ended) != 2 || ended[0].Release != ReleasedByAdmin {
				t.Errorf("known %v: %+v ended", known, ended)
			}
			check(t, backup)
		}
	}
}
