package sim

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pointsOf lists the crash points of one node in one script, after a run without any.
func pointsOf(t *testing.T, seed uint64, leader bool) (list []CrashPoint) {
	var r *Report
	writes := 0
	synctest.Test(t, func(t *testing.T) { r, writes = RunPoint(CrashPoint{Seed: seed, Leader: leader}) })
	if len(r.Violations) > 0 || writes < 40 || r.Grants < 5 {
		t.Fatalf("script %d without a power failure: %d writes, %v", seed, writes, r)
	}
	for k := 1; k <= writes; k++ {
		for _, o := range outcomes {
			list = append(list, CrashPoint{Seed: seed, Leader: leader, Write: k, Outcome: o})
		}
	}
	return list
}

// A power failure in any write of any node, whatever is found of that write, breaks no
// invariant. Each script gives some hundred points for the leader and for a follower.
func TestNoCrashPointLosesAnything(t *testing.T) {
	wanted := *points
	if testing.Short() { // make stories tries all
		wanted = min(wanted, 30)
	}
	var list []CrashPoint
	for seed := uint64(1); len(list) < wanted; seed++ {
		list = append(list, pointsOf(t, seed, true)...)
		list = append(list, pointsOf(t, seed, false)...)
	}
	all := len(list)
	if wanted < 500 { // a sample: spread over the whole script
		var some []CrashPoint
		for i := range wanted {
			some = append(some, list[i*all/wanted])
		}
		list = some
	}
	var mu sync.Mutex
	failed, bad := 0, 0
	start := time.Now()
	spread(len(list), func(i int) bool {
		var r *Report
		synctest.Test(t, func(t *testing.T) { r, _ = RunPoint(list[i]) })
		mu.Lock()
		defer mu.Unlock()
		failed += r.PowerFailures
		if len(r.Violations) > 0 {
			bad++
			t.Errorf("%v: %s (%s)", list[i], r.Violations[0], keep(t, fmt.Sprintf("point-%d", i), r))
		}
		return bad < enoughBad
	})
	t.Logf("%d points of %d, power failed at %d of them, in %v", len(list), all, failed, time.Since(start).Round(time.Second))
	if failed < len(list)*9/10 {
		t.Errorf("power failed at %d of %d points only", failed, len(list))
	}
}
