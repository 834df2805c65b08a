package main

import (
	"runtime"
	"testing"
)

func TestHeapGrowsToItsFloorAndByHalfAbove(t *testing.T) {
	for _, tc := range []struct {
		live uint64
		want int
	}{
		{0, 3200}, {1 << 20, 3200}, {8 << 20, 1500}, {13 << 20, 875}, {32 << 20, 300}, {64 << 20, 100}, {1 << 30, 100},
	} {
		if got := percentFor(tc.live); got != tc.want {
			t.Errorf("%d MiB live: %d, want %d", tc.live>>20, got, tc.want)
		}
	}
}

func TestEveryCollectionIsHeardOf(t *testing.T) {
	heard := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	afterEachCollection(func() {
		select {
		case heard <- struct{}{}:
		case <-stop:
		}
	})
	for range 3 {
		for waits := true; waits; { // what is allocated during a collection outlives it
			runtime.GC()
			select {
			case <-heard:
				waits = false
			default:
			}
		}
	}
}
