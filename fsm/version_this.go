//go:build !nextversion

package fsm

import (
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// LatestVersion of the log that this build understands; see FirstVersion.
//
//	1  everything up to the first release
const LatestVersion = 1

func toNext(lease.Command) *logv1.Command   { return nil }
func fromNext(*logv1.Command) lease.Command { return nil }
func isNext(lease.Command) bool             { return false }
