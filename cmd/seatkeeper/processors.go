package main

import (
	"os"
	"runtime"
)

// leastProcessors is how many goroutines of a server may run at once, on a machine with a
// single CPU too. With one, Go's only processor stays with a thread that waits for the disk
// until Go's monitor notices, and nobody is answered meanwhile: a tenth to a sixth of the
// latency beside busy tenants (rpc/DESIGN.md, "Where time goes").
const leastProcessors = 2

// enoughProcessors sees to that, unless the operator has set GOMAXPROCS.
func enoughProcessors() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < leastProcessors {
		runtime.GOMAXPROCS(leastProcessors)
	}
}
