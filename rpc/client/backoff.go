package client

import (
	"context"
	"time"
)

// firstPause is the upper bound of the first pause: about the time a cluster on one
// network needs to notice that its leader is gone.
const firstPause = 100 * time.Millisecond

// maxRetryAfter bounds how long a node may tell us to stay away; beyond it a
// mistaken hint would cost leases.
const maxRetryAfter = time.Minute

// fullJitter is the pause before try n (from 0): uniform between nothing and the
// exponentially growing bound, so that clients that failed together come back apart
// (AWS, "Exponential Backoff And Jitter", 2015).
func fullJitter(n int, limit time.Duration, random float64) time.Duration {
	bound := limit
	if n < 30 {
		bound = min(limit, firstPause<<n)
	}
	return time.Duration(random * float64(bound))
}

// retryAfter is the pause when a node named one: never shorter, and spread so that
// those who were told the same do not return at the same instant.
func retryAfter(hint time.Duration, n int, limit time.Duration, random float64) time.Duration {
	hint = min(hint, maxRetryAfter)
	return hint + max(fullJitter(n, limit, random), time.Duration(random*float64(hint/2)))
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
