//go:build mutants

package fsm

import (
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

var started = time.Now()

// stampOf without its guard reads the clock of whoever applies the entry.
func stampOf(e *logv1.Entry) lease.Time {
	if lease.Broken(lease.GuardStamp) {
		return lease.Time(time.Since(started))
	}
	return lease.Time(e.Stamp)
}
