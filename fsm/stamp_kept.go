//go:build !mutants

package fsm

import (
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// stampOf is the time at which an entry takes effect: what its leader proposed, so that
// all replicas and every replay see the same.
func stampOf(e *logv1.Entry) lease.Time { return lease.Time(e.Stamp) }
