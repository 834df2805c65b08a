package main

import "os"

// ballastBytes is memory that a server asks for and never touches, so that it takes none of
// the machine's. The garbage collector waits until the heap has doubled: a small cluster's
// is a dozen megabytes, and doubling that took a collection several times a second, a tenth
// of the processor time under load. With it the collector waits for 64 MiB more, which is
// all that a flood of requests can cost beyond what it did before.
const ballastBytes = 32 << 20

// takeBallast returns the ballast, to be kept alive for as long as the server serves: none
// where the operator has set GOGC or GOMEMLIMIT.
func takeBallast() []byte {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	return make([]byte, ballastBytes)
}
