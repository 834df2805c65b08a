package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is the heap below which a server collects no garbage. A small cluster's live
// heap is a dozen megabytes; doubling that took a collection several times a second, a
// tenth of its processor time under load. Beyond half of it Go's own rule holds again.
const heapFloor = 128 << 20

// keepHeapFloor has the collector wait for heapFloor, or for twice what is live. It does
// nothing where the operator has set GOGC or GOMEMLIMIT.
func keepHeapFloor() {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	percent := 0
	afterEachCollection(func() {
		if p := percentFor(liveHeap()); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
	})
}

// percentFor is the growth, in hundredths, that takes a live heap to the floor: in steps of
// a quarter, because each change stops the world for a moment.
func percentFor(live uint64) int {
	const least, most, step = 100, 3200, 25
	grown := int(heapFloor*100/max(live, 1<<20)) - 100
	return min(max(grown/step*step, least), most)
}

func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// afterEachCollection calls do after each collection from now on. The object that is
// found dead each time is the only way to hear of one without polling.
func afterEachCollection(do func()) {
	type dead struct{ _ [16]byte } // no tiny object: those share a block
	runtime.AddCleanup(new(dead), func(do func()) {
		do()
		afterEachCollection(do)
	}, do)
}
