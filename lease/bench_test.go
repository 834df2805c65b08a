package lease_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func manySession(n int) lease.SessionRef {
	ref := lease.SessionRef{Incarnation: 1}
	binary.BigEndian.PutUint64(ref.ID[:], uint64(n+1))
	ref.ID[15] = 1
	return ref
}

func manyCheckout(n int) lease.Checkout {
	return lease.Checkout{
		Tenant: "default", Session: manySession(n), Principal: lease.Principal{User: "u", Host: "h"},
		Items: []lease.Item{{Feature: "cad", Count: 1}},
	}
}

// numberedCheckout is as an SDK sends it, of a user and a host of its own.
func numberedCheckout(n int) lease.Checkout {
	c := manyCheckout(n)
	c.Session.Seq = 1
	c.Principal = lease.Principal{User: fmt.Sprintf("user%07d", n), Host: fmt.Sprintf("ws%07d", n)}
	return c
}

// full returns a Book with n live leases, one a session, and room for more.
func full(t testing.TB, n int) *lease.Book {
	return fullOf(t, n, feature("cad", lease.MaxCount), manyCheckout)
}

func fullOf(t testing.TB, n int, e lease.Entitlement, checkout func(n int) lease.Checkout) *lease.Book {
	b := lease.NewBook()
	b.Advance(0, launch)
	apply(t, b, lease.InstallLicence{Licence: licence("L-1", e)})
	e.Serial = "more"
	apply(t, b, lease.InstallLicence{Licence: licence("L-2", e)})
	for i := range n {
		apply(t, b, checkout(i))
		if i%4096 == 0 {
			b.TakeEvents()
		}
	}
	b.TakeEvents()
	return b
}

func apply(t testing.TB, b *lease.Book, c lease.Command) {
	if r := b.Apply(1, c); r.Refusal != nil {
		t.Fatal(r.Refusal)
	}
}

// The work of a command does not grow with the live leases: neither do its allocations.
func TestAllocationsDoNotGrowWithTheLiveLeases(t *testing.T) {
	measure := func(live int) (renew, cycle float64) {
		b := fullOf(t, live, shared("cad", lease.MaxCount, 4), numberedCheckout)
		renew = testing.AllocsPerRun(200, func() { apply(t, b, lease.Renew{Session: manySession(live / 2)}) })
		in, out := visit(live)
		cycle = testing.AllocsPerRun(200, func() {
			apply(t, b, in)
			apply(t, b, out)
			b.TakeEvents()
		})
		return renew, cycle
	}
	renew1, cycle1 := measure(1_000)
	many := inFull(100_000, 20_000)
	renew2, cycle2 := measure(many)
	if renew1 != renew2 || cycle1 != cycle2 {
		t.Fatalf("renew %v allocations at 1,000 leases, %v at %d; checkout and check-in %v and %v", renew1, renew2, many, cycle1, cycle2)
	}
}

// visit is a session that comes and goes.
func visit(n int) (lease.Command, lease.Command) {
	in := numberedCheckout(n)
	in.Ephemeral = true
	out := lease.CheckIn{Session: in.Session, Close: true}
	out.Session.Seq = 2
	return in, out
}

func BenchmarkCheckoutAndCheckIn(b *testing.B) {
	for _, live := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(live), func(b *testing.B) {
			book := fullOf(b, live, shared("cad", lease.MaxCount, 4), numberedCheckout)
			in, out := visit(live)
			b.ReportAllocs()
			for b.Loop() {
				apply(b, book, in)
				apply(b, book, out)
				book.TakeEvents()
			}
		})
	}
}

// How much slower a checkout by a new session is among 1,000,000 live leases than among
// 1,000: medians of both, measured in turn. Both see a session and a share key that
// nobody touched lately; the rest of the difference is what memory costs.
func BenchmarkGrowth(b *testing.B) {
	const few, many = 1_000, 1_000_000
	books := map[int]*lease.Book{}
	for _, live := range []int{few, many} {
		books[live] = fullOf(b, live, shared("cad", lease.MaxCount, 4), numberedCheckout)
	}
	took := map[int][]time.Duration{}
	for i := 0; b.Loop(); i++ {
		in, out := visit(many + i)
		for _, live := range []int{few, many} {
			start := time.Now()
			apply(b, books[live], in)
			took[live] = append(took[live], time.Since(start))
			apply(b, books[live], out)
			books[live].TakeEvents()
		}
	}
	for _, list := range took {
		slices.Sort(list)
	}
	ratio := func(part int) float64 {
		return float64(took[many][len(took[many])*part/100]) / float64(took[few][len(took[few])*part/100])
	}
	b.ReportMetric(ratio(50), "x-median")
	b.ReportMetric(ratio(99), "x-p99")
}

func BenchmarkRenew(b *testing.B) {
	for _, live := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(live), func(b *testing.B) {
			book := full(b, live)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				apply(b, book, lease.Renew{Session: manySession(i * 7919 % live)})
			}
		})
	}
}

// One batch of renewals after each Freeze: what a snapshot costs those that go on.
func BenchmarkRenewAfterFreeze(b *testing.B) {
	book := full(b, 1_000_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); {
		book.Freeze()
		for range 512 {
			i++
			apply(b, book, lease.Renew{Session: manySession(i * 7919 % 1_000_000)})
		}
	}
}

func BenchmarkDue(b *testing.B) {
	const live = 100_000
	book := full(b, live)
	book.Advance(lease.Time(time.Hour), launch)
	b.ReportAllocs()
	for b.Loop() {
		if n := len(book.Due(live)); n != live {
			b.Fatalf("%d due", n)
		}
	}
}

// The same when all were renewed since: every key is put right once.
func BenchmarkDueAfterRenewal(b *testing.B) {
	const live = 100_000
	book := full(b, live)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		book.Advance(book.Now().Add(239*time.Second), launch)
		for i := range live {
			apply(b, book, lease.Renew{Session: manySession(i)})
		}
		book.Advance(book.Now().Add(time.Second), launch)
		b.StartTimer()
		if n := len(book.Due(live)); n != 0 {
			b.Fatalf("%d due", n)
		}
	}
}

// One denial among 100,000 leases of another feature that are due costs what it costs
// when nothing is.
func BenchmarkDenialAmongDue(b *testing.B) {
	const live = 100_000
	cam := feature("cam", 1)
	cam.Profile = lease.Profiles["wan"]
	book := full(b, live)
	apply(b, book, lease.InstallLicence{Licence: licence("L-3", cam)})
	want := manyCheckout(live)
	want.Items = []lease.Item{{Feature: "cam", Count: 1}}
	apply(b, book, want)
	book.Advance(lease.Time(250*time.Second), launch)
	want.Session = manySession(live + 1)
	b.ReportAllocs()
	for b.Loop() {
		if r := book.Apply(2, want); r.Refusal == nil || r.Refusal.Reason != lease.NoSeats {
			b.Fatal(r.Refusal)
		}
		book.TakeEvents()
	}
	if _, leases := book.Counts(); leases != live+1 {
		b.Fatalf("%d leases left", leases)
	}
}

// Where they are of the feature that is asked for, and all are wanted: as much as one
// command reclaims.
func BenchmarkReclaimByOneCommand(b *testing.B) {
	const live = 8192
	for b.Loop() {
		b.StopTimer()
		book := fullOf(b, live, feature("cad", live/2), manyCheckout)
		book.Advance(lease.Time(250*time.Second), launch)
		want := manyCheckout(live)
		want.Items[0].Count = live
		b.StartTimer()
		if r := book.Apply(2, want); r.Refusal == nil || r.Refusal.Reason != lease.Overloaded {
			b.Fatal(r.Refusal)
		}
	}
}

func BenchmarkFreeze(b *testing.B) {
	book := full(b, 1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		book.Freeze()
	}
}

// Heap per live lease, one a session: sessions, seats, indexes and what is remembered of
// the last request counted. "numbered" has all that an SDK's lease has: a numbered
// request, names of its own, and a share rule to be found by.
func BenchmarkMemoryPerLease(b *testing.B) {
	const live = 1_000_000
	for _, kind := range []struct {
		name     string
		feature  lease.Entitlement
		checkout func(n int) lease.Checkout
	}{
		{"numbered", shared("cad", lease.MaxCount, 4), numberedCheckout},
		{"plain", feature("cad", lease.MaxCount), manyCheckout},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				book := fullOf(b, live, kind.feature, kind.checkout)
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(book)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/live, "B/lease")
		})
	}
}

// Denials that nobody is served for, of few askers: each also pushes an old one out.
func BenchmarkUnserved(b *testing.B) {
	var u lease.Unserved
	e := lease.Event{Tenant: "t", Feature: "cad", Principal: lease.Principal{User: "ann", Host: "ws1"}}
	index := uint64(0)
	for b.Loop() {
		index++
		u.Denied(&e, lease.DenialID{Index: index})
	}
}
