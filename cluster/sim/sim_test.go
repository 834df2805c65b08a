package sim

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds  = flag.Int("seeds", 12, "how many seeds to run")
	first  = flag.Uint64("seed", 1, "the first seed")
	length = flag.Duration("length", 5*time.Minute, "virtual length of each run")
)

// play runs one seed in a bubble of its own.
func play(t *testing.T, cfg Config) (r *Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { r = Run(cfg) })
	return r
}

func TestInvariantsHoldUnderFaults(t *testing.T) {
	for i := range *seeds {
		r := play(t, Config{Seed: *first + uint64(i), Length: *length})
		t.Logf("%v", r)
		if len(r.Violations) > 0 {
			t.Errorf("repeat with: go test ./cluster/sim -run TestInvariantsHoldUnderFaults -seeds 1 -seed %d -length %v", r.Seed, *length)
		}
	}
}
