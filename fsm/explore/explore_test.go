package explore

import (
	"flag"
	"testing"
	"time"
)

var full = flag.Bool("full", false, "explore to the full depth")

func TestNoInterleavingBreaksAnInvariant(t *testing.T) {
	for _, c := range []struct {
		name        string
		short, full Config
	}{
		{"two clients, one seat", Config{2, 1, 5, 100_000}, Config{2, 1, 9, 60_000}},
		{"two clients, two seats", Config{2, 2, 4, 100_000}, Config{2, 2, 9, 60_000}},
		{"three clients, one seat", Config{3, 1, 4, 100_000}, Config{3, 1, 8, 60_000}},
		{"three clients, two seats", Config{3, 2, 4, 100_000}, Config{3, 2, 8, 60_000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := c.short
			if *full {
				cfg = c.full
			} else if testing.Short() { // make stories goes deeper
				cfg.Depth = 6 - cfg.Clients
			}
			start := time.Now()
			r, err := Run(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v in %v", r, time.Since(start).Round(10*time.Millisecond))
			if r.Violation != nil {
				t.Fail()
			}
			if r.States < 100 {
				t.Error("too few states to prove anything")
			}
		})
	}
}
