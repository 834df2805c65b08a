//go:build mutants

package main

import (
	"os"

	"github.com/seatkeeper/seatkeeper/lease"
)

// A build for the chaos harness takes away the guard that SEATKEEPER_BROKEN names, to
// show that a checker turns red without it.
func init() { lease.Break(lease.Guard(os.Getenv("SEATKEEPER_BROKEN"))) }
