package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// ballastBytes is memory that a server asks for and never touches, so that it takes none of
	// the machine's. The garbage collector waits until the heap has doubled: a small cluster's
	// is a dozen megabytes, and doubling that takes a collection several times a second under
	// load. Each takes tens of milliseconds of one processor, in which everybody waits. With
	// more the collector would come less often still, but what a flood of requests can take
	// grows with it (TestFloodsOfEveryPortCostBoundedMemoryAndNobodyElseATurn).
	ballastBytes = 64 << 20
	// percentStep is the least change of the collector's percentage that is worth the moment
	// in which all stands still for it.
	percentStep = 5
)

// collectLess has the garbage collector come less often while the heap is small, until stop
// is called; a large heap is doubled as ever. It does nothing where the operator has set GOGC or
// GOMEMLIMIT.
func collectLess() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ballast := make([]byte, ballastBytes)
	percent := 100
	var over atomic.Bool
	eachCollection(func() bool {
		if over.Load() {
			return false
		}
		own := int(liveHeap()) - ballastBytes
		if p := collectorPercent(own); p-percent >= percentStep || percent-p >= percentStep {
			percent = p
			debug.SetGCPercent(p)
		}
		return true
	})
	return func() {
		over.Store(true)
		runtime.KeepAlive(ballast)
	}
}

// collectorPercent is the GOGC with which the collector waits for as much as the ballast has, or
// as lives beside it, whichever is more. It lies between 50 and 100 whatever lives, so a heap
// that grows suddenly is not collected later than the ballast alone brings about.
func collectorPercent(own int) int {
	if own <= 0 {
		return 100
	}
	return int(math.Ceil(100 * float64(max(ballastBytes, own)) / float64(ballastBytes+own)))
}

// liveHeap is what the last collection found in use, in bytes.
func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// eachCollection calls f once after each garbage collection, for as long as it says true.
func eachCollection(f func() bool) {
	mark := new([16]byte) // as long as that, it does not share a block with something that lives on
	runtime.AddCleanup(mark, func(f func() bool) {
		if f() {
			eachCollection(f)
		}
	}, f)
}
