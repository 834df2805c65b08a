package lease_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
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

// full returns a Book with n live leases, one a session, and room for more.
func full(t testing.TB, n int) *lease.Book {
	b := lease.NewBook()
	b.Advance(0, launch)
	apply(t, b, lease.InstallLicence{Licence: licence("L-1", feature("cad", lease.MaxCount))})
	e := feature("cad", lease.MaxCount)
	e.Serial = "more"
	apply(t, b, lease.InstallLicence{Licence: licence("L-2", e)})
	for i := range n {
		apply(t, b, manyCheckout(i))
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
		b := full(t, live)
		renew = testing.AllocsPerRun(200, func() { apply(t, b, lease.Renew{Session: manySession(live / 2)}) })
		cycle = testing.AllocsPerRun(200, func() {
			apply(t, b, manyCheckout(live))
			apply(t, b, lease.CheckIn{Session: manySession(live)})
			b.TakeEvents()
		})
		return renew, cycle
	}
	renew1, cycle1 := measure(100)
	renew2, cycle2 := measure(10_000)
	if renew1 != renew2 || cycle1 != cycle2 {
		t.Fatalf("renew %v allocations at 100 leases, %v at 10,000; checkout and check-in %v and %v", renew1, renew2, cycle1, cycle2)
	}
}

func BenchmarkCheckoutAndCheckIn(b *testing.B) {
	for _, live := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(live), func(b *testing.B) {
			book := full(b, live)
			b.ReportAllocs()
			for b.Loop() {
				apply(b, book, manyCheckout(live))
				apply(b, book, lease.CheckIn{Session: manySession(live)})
				book.TakeEvents()
			}
		})
	}
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

func BenchmarkFreeze(b *testing.B) {
	book := full(b, 1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		book.Freeze()
	}
}

func BenchmarkMemoryPerLease(b *testing.B) {
	const live = 1_000_000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		book := full(b, live)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(book)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/live, "B/lease")
}
