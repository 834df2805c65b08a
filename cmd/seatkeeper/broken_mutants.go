//go:build mutants

package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
)

// A build for the chaos harness takes away the guards that SEATKEEPER_BROKEN names,
// separated by commas, to show that a checker turns red without them.
func init() {
	var guards []lease.Guard
	for name := range strings.SplitSeq(os.Getenv("SEATKEEPER_BROKEN"), ",") {
		guards = append(guards, lease.Guard(name))
	}
	lease.Break(guards...)
}

// tune makes snapshots after so many entries as SEATKEEPER_SNAPSHOT_ENTRIES says: a run of
// seconds would see none.
func tune(c cluster.Config) cluster.Config {
	if n, err := strconv.ParseUint(os.Getenv("SEATKEEPER_SNAPSHOT_ENTRIES"), 10, 32); err == nil {
		c.SnapshotThreshold, c.SnapshotInterval = n, 200*time.Millisecond
	}
	return c
}
