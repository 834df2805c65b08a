//go:build !linux && !darwin && !windows

package agent

import (
	"context"
	"errors"
)

// identify has no twin here: holders are connections or times to live.
func identify(int) (process, int, error) {
	return process{}, 0, errors.New("processes cannot be watched on this system: use POST /v1/hold, or ttl_ms")
}

func (p process) ended(ctx context.Context) error { return p.poll(ctx) }
