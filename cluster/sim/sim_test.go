package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds  = flag.Int("seeds", 15, "how many seeds to run")
	first  = flag.Uint64("seed", 1, "the first seed")
	length = flag.Duration("length", 5*time.Minute, "virtual length of each run")
	raftT  = flag.Duration("raft-timeout", 0, "raft's timeouts; 0 lets the seed choose one to three seconds")
	trails = flag.String("trails", "", "directory for the schedule and the last events of runs with violations")
	ruled  = flag.Bool("ruled", false, "two worlds of three, not one, have policies, a queue, bookings and borrowing")
	points = flag.Int("points", 90, "how many crash points to try")
)

// play runs one seed in a bubble of its own.
func play(t *testing.T, cfg Config) (r *Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { r = Run(cfg) })
	return r
}

// drawn is what the command line and the seed make of a run: every second one asks for
// liveness too, and of three one is ruled, or with -ruled two.
func drawn(seed uint64) Config {
	third := seed / 2 % 3
	cfg := Config{Seed: seed, Length: *length, Mode: Mode(seed % 2), RaftTimeout: *raftT, Ruled: third == 1 || *ruled && third == 2}
	if testing.Short() {
		cfg.Length = min(cfg.Length, 3*time.Minute)
	}
	if cfg.RaftTimeout == 0 {
		cfg.RaftTimeout = time.Duration(1+seed%3) * time.Second
	}
	return cfg
}

// repeat is the command that runs one seed again.
func repeat(cfg Config) string {
	return fmt.Sprintf("go test ./cluster/sim -run TestInvariantsHoldUnderFaults -ruled=%t -seeds 1 -seed %d -length %v -raft-timeout %v", *ruled, cfg.Seed, cfg.Length, cfg.RaftTimeout)
}

// spread calls do for each number below n, on all cores, until one of them says stop.
func spread(n int, do func(i int) (goOn bool)) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := 0
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n || !do(i) {
					mu.Lock()
					next = n
					mu.Unlock()
					return
				}
			}
		})
	}
	workers.Wait()
}

// sums adds up reports.
type sums struct {
	Report
	runs int
}

func (s *sums) add(r *Report) {
	s.runs++
	if s.Faults == nil {
		s.Faults = map[string]int{}
	}
	for name, n := range r.Faults {
		s.Faults[name] += n
	}
	for to, n := range map[*int]int{
		&s.Entries: r.Entries, &s.Stale: r.Stale, &s.Epochs: r.Epochs, &s.Grants: r.Grants, &s.Replays: r.Replays,
		&s.Renewals: r.Renewals, &s.Expirations: r.Expirations, &s.Denials: r.Denials, &s.Restores: r.Restores,
		&s.Queued: r.Queued, &s.Offered: r.Offered, &s.Booked: r.Booked, &s.Borrowed: r.Borrowed, &s.Policies: r.Policies, &s.Restored: r.Restored,
		&s.Acknowledged: r.Acknowledged, &s.PowerFailures: r.PowerFailures, &s.Waited: r.Waited,
	} {
		*to += n
	}
	s.Slowest = max(s.Slowest, r.Slowest)
	s.Virtual += r.Virtual
}

func (s *sums) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %.1f virtual hours: %d entries (%d stale), %d epochs, %d acknowledged, %d grants, %d replays, %d renewals, %d expirations, %d denials, %d restores, %d power failures within a write; %d newcomers waited for seats of vanished holders, at most %v\nruled: %d places in the queue, %d grants from it, %d bookings, %d borrowings, %d changes of policy or licence, %d restores of backups\nfaults:",
		s.runs, s.Virtual.Hours(), s.Entries, s.Stale, s.Epochs, s.Acknowledged, s.Grants, s.Replays, s.Renewals, s.Expirations, s.Denials, s.Restores, s.PowerFailures, s.Waited, s.Slowest.Round(time.Millisecond),
		s.Queued, s.Offered, s.Booked, s.Borrowed, s.Policies, s.Restored)
	for _, name := range slices.Sorted(maps.Keys(s.Faults)) {
		fmt.Fprintf(&b, " %s %d", name, s.Faults[name])
	}
	return b.String()
}

// keep writes what is known of a bad run to the directory of -trails.
func keep(t *testing.T, name string, r *Report) string {
	if *trails == "" {
		return "-trails dir keeps its events"
	}
	if err := os.MkdirAll(*trails, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(*trails, name+".txt")
	text := fmt.Sprintf("%v\nschedule of faults:\n%s\n", r, strings.Join(r.Schedule, "\n"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return "events in " + file
}

// enoughBad is how many runs with violations end a test: one is reason enough to look,
// a few show a pattern.
const enoughBad = 3

func TestInvariantsHoldUnderFaults(t *testing.T) {
	var mu sync.Mutex
	var total sums
	bad, worlds := 0, *seeds
	if testing.Short() { // make stories simulates all
		worlds = min(worlds, 10)
	}
	start := time.Now()
	spread(worlds, func(i int) bool {
		cfg := drawn(*first + uint64(i))
		r := play(t, cfg)
		mu.Lock()
		defer mu.Unlock()
		total.add(r)
		if testing.Verbose() && *seeds <= 50 {
			t.Log(strings.TrimSpace(r.String()))
		}
		if len(r.Violations) > 0 {
			bad++
			t.Errorf("seed %d: %s\n  (and %d more; %s)\n  repeat with: %s", r.Seed, r.Violations[0], len(r.Violations)-1, keep(t, fmt.Sprintf("seed-%d", r.Seed), r), repeat(cfg))
		}
		return bad < enoughBad
	})
	t.Logf("%v\nin %v of real time", &total, time.Since(start).Round(time.Second))
	if total.runs >= 10 && (total.Grants == 0 || total.Expirations == 0 || total.Epochs < 2*total.runs || total.Waited == 0 || total.PowerFailures == 0) {
		t.Error("the runs prove nothing: too little happened in them")
	}
	if total.runs >= 10 && (total.Queued == 0 || total.Offered == 0 || total.Booked == 0 || total.Borrowed == 0 || total.Policies == 0 || *ruled && total.Restored == 0) {
		t.Error("the runs prove nothing of the rules: too little of them happened")
	}
}

// What the simulator breaks on purpose must be found by the check that is there for it.
func TestSabotageIsFound(t *testing.T) {
	for _, c := range []struct {
		what Sabotage
		by   string
	}{
		{NoSync, "C8"},
		{StoppedClock, "C11"},
	} {
		t.Run(string(c.what), func(t *testing.T) {
			var mu sync.Mutex
			found := false
			spread(20, func(i int) bool {
				r := play(t, Config{Seed: 1 + uint64(i), Length: 2 * time.Minute, Mode: Liveness, Sabotage: c.what, StopAtFirst: c.what == StoppedClock})
				mu.Lock()
				defer mu.Unlock()
				for _, v := range r.Violations {
					found = found || strings.HasPrefix(v, c.by+" ")
				}
				return !found
			})
			if !found {
				t.Errorf("no %s in 20 seeds with %s", c.by, c.what)
			}
		})
	}
}

// Somebody who waits for the seats of vanished holders is told so when they never come.
func TestWaitingInVainIsFound(t *testing.T) {
	for seed := range uint64(20) { // in some, nobody vanishes with a seat
		r := play(t, Config{Seed: 1 + seed, Length: time.Minute, Mode: Liveness, Sabotage: StoppedClock})
		if slices.ContainsFunc(r.Violations, func(v string) bool { return strings.HasPrefix(v, "LIVE") && strings.Contains(v, "have not come back") }) {
			return
		}
	}
	t.Error("nobody waited in vain in 20 seeds")
}
