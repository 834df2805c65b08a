package main

import (
	"runtime"
	"testing"
	"time"
)

// The next collection comes when the heap has grown by the ballast, or has doubled,
// whichever is more.
func TestCollectorWaitsForTheBallastOrADoubledHeap(t *testing.T) {
	const mib = 1 << 20
	for _, own := range []int{1 * mib, 17 * mib, 63 * mib, 64 * mib, 65 * mib, 400 * mib, 4000 * mib} {
		p := collectorPercent(own)
		if p < 50 || p > 100 {
			t.Errorf("with %d MiB in use the percentage is %d, want 50 to 100", own/mib, p)
		}
		room, want := (ballastBytes+own)*p/100, max(ballastBytes, own)
		if room < want || room > want+(ballastBytes+own)/100 {
			t.Errorf("with %d MiB in use there is room for %d MiB, want %d", own/mib, room/mib, want/mib)
		}
	}
}

func TestEachCollectionIsTold(t *testing.T) {
	const wanted = 3
	told, n := make(chan struct{}, 8), 0
	eachCollection(func() bool {
		told <- struct{}{}
		n++
		return n < wanted
	})
	for range wanted {
		runtime.GC()
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Fatal("a collection was not told within ten seconds")
		}
	}
	runtime.GC()
	runtime.GC()
	if n := len(told); n > 0 {
		t.Errorf("told %d times more after it had said that it was enough", n)
	}
}
