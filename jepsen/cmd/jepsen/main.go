// Command jepsen runs Seatkeeper's chaos harness, judges stored runs, and cleans up after
// a run that crashed. See jepsen/README.md.
//
//	jepsen run     one fault of each family (needs root)
//	jepsen long    mixed faults for hours (needs root)
//	jepsen mutants each seeded bug must turn its checker red (needs root)
//	jepsen replay  judge a stored run again
//	jepsen can     say what this machine lacks for a run
//	jepsen clean   take away what a crashed run left (needs root)
//
// Exit codes: 0 valid, 1 invalid, 2 not conclusive.
package main

import (
	"os"
)

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }
