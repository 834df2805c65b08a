package main

import (
	"runtime"
	"testing"
	"time"
)

func TestBallastIsASmallPartOfTheMemory(t *testing.T) {
	for memory, want := range map[uint64]int{
		0:         0,
		256 << 20: 16 << 20,
		1 << 30:   64 << 20,
		64 << 30:  maxBallast,
	} {
		if got := ballastFor(memory); got != want {
			t.Errorf("of %d bytes %d are ballast, want %d", memory, got, want)
		}
	}
	if usableMemory() == 0 {
		t.Error("what this process may use is not known")
	}
}

// The next collection comes when the heap has grown by the ballast, or has doubled,
// whichever is more.
func TestCollectorWaitsForTheBallastOrADoubledHeap(t *testing.T) {
	const mib = 1 << 20
	for _, own := range []int{1 * mib, 17 * mib, 100 * mib, 160 * mib, 161 * mib, 400 * mib, 4000 * mib} {
		p := collectorPercent(maxBallast, own)
		if p < 50 || p > 100 {
			t.Errorf("with %d MiB in use the percentage is %d, want 50 to 100", own/mib, p)
		}
		room, want := (maxBallast+own)*p/100, max(maxBallast, own)
		if room < want || room > want+(maxBallast+own)/100 {
			t.Errorf("with %d MiB in use there is room for %d MiB, want %d", own/mib, room/mib, want/mib)
		}
	}
	if p := collectorPercent(0, 100*mib); p != 100 {
		t.Errorf("without a ballast the percentage is %d", p)
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
