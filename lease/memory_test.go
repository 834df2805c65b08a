package lease_test

import (
	"runtime"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// What a live lease may cost, with a session of its own, a numbered request, names and a
// share rule; the benchmark says what it does at a million.
func TestALeaseTakesLessThan300BytesOfHeap(t *testing.T) {
	const most = 300
	live := inFull[uint64](200_000, 50_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	book := fullOf(t, int(live), shared("cad", lease.MaxCount, 4), numberedCheckout)
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(book)
	if got := (after.HeapAlloc - before.HeapAlloc) / live; got > most {
		t.Errorf("%d bytes, want at most %d", got, most)
	} else {
		t.Logf("%d bytes", got)
	}
}
