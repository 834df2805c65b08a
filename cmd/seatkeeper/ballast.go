package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// maxBallast is memory that a server asks for and never touches, so that it takes none of
	// the machine's. The garbage collector waits until the heap has doubled: a small cluster's
	// is a dozen megabytes, and doubling that takes a collection several times a second under
	// load. Each takes tens of milliseconds of one processor, in which everybody waits. With
	// the ballast it comes once in some seconds, and a busy server's heap grows by that much.
	maxBallast = 256 << 20
	// ballastPart is the part of the memory that this process may use which the ballast is at
	// most: in a container of 256 MiB 16 MiB.
	ballastPart = 16
	// percentStep is the least change of the collector's percentage that is worth the moment
	// in which all stands still for it.
	percentStep = 5
)

// ballastFor is the ballast of a process that may use so many bytes.
func ballastFor(memory uint64) int { return int(min(maxBallast, memory/ballastPart)) }

// usableMemory is what the control group allows this process, else what the machine has.
func usableMemory() uint64 {
	memory, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		return 0 // unknown: then as if there was none to spare
	}
	return memory
}

// collectLess has the garbage collector come less often while the heap is small, until stop
// is called; a large heap is doubled as ever. It does nothing where the operator has set GOGC or
// GOMEMLIMIT.
func collectLess() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ballast := make([]byte, ballastFor(usableMemory()))
	percent := 100
	var over atomic.Bool
	eachCollection(func() bool {
		if over.Load() {
			return false
		}
		own := int(liveHeap()) - len(ballast)
		if p := collectorPercent(len(ballast), own); p-percent >= percentStep || percent-p >= percentStep {
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
// that grows suddenly is not collected later than it would be without a ballast of its size.
func collectorPercent(ballast, own int) int {
	if ballast <= 0 || own <= 0 {
		return 100
	}
	return int(math.Ceil(100 * float64(max(ballast, own)) / float64(ballast+own)))
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
