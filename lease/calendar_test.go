package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func ms(d time.Duration) lease.Calendar { return lease.Calendar(d / time.Millisecond) }

// expiring returns a world with a feature that ends in a day.
func expiring(t *testing.T) *world {
	e := feature("cad", 1)
	e.Expiry = launch + ms(day)
	return newWorld(t, e)
}

func TestWindingTheClockBackRevivesNothing(t *testing.T) {
	w := expiring(t)
	w.wait(day)
	w.refused(lease.LicenseExpired, checkout(1, "cad", 1))
	for range 100 {
		w.Advance(w.Now().Add(time.Minute), launch)
		w.refused(lease.LicenseExpired, checkout(1, "cad", 1))
	}
	w.equal("calendar", w.Calendar(), launch+ms(day))
	w.equal("alarms", len(w.Alarms()), 0)
}

func TestAJumpAheadIsHeldThenBelieved(t *testing.T) {
	w := expiring(t)
	jumped := launch + ms(400*day)
	w.wait(time.Minute)
	for passed := time.Duration(0); passed < lease.CalendarHold; passed += time.Minute {
		w.Advance(w.Now().Add(time.Minute), jumped+ms(passed))
		w.equal("calendar", w.Calendar(), launch+ms(passed+2*time.Minute)) // goes on with cluster time
		w.equal("alarms", len(w.Alarms()), 1)
	}
	w.must(checkout(1, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.Advance(w.Now().Add(time.Minute), jumped+ms(lease.CalendarHold))
	w.equal("calendar", w.Calendar(), jumped+ms(lease.CalendarHold))
	w.equal("alarms", len(w.Alarms()), 0)
	w.refused(lease.LicenseExpired, checkout(2, "cad", 1))
}

func TestAJumpThatIsPutRightIsForgotten(t *testing.T) {
	w := expiring(t)
	for range 200 {
		w.Advance(w.Now().Add(time.Minute), launch+ms(400*day))
		w.Advance(w.Now().Add(time.Minute), launch+ms(w.Now().Add(time.Minute).Sub(0)))
		w.equal("alarms", len(w.Alarms()), 0)
	}
	w.must(checkout(1, "cad", 1))
	w.equal("calendar", w.Calendar(), launch+ms(400*time.Minute))
}

func TestTimeLostInAnOutageIsBelievedWithinTheSlack(t *testing.T) {
	w := newWorld(t)
	w.Advance(w.Now(), launch+ms(lease.CalendarSlack))
	w.equal("calendar", w.Calendar(), launch+ms(lease.CalendarSlack))
	w.Advance(w.Now(), launch+ms(lease.CalendarSlack)+1)
	w.equal("calendar", w.Calendar(), launch+ms(lease.CalendarSlack))
	w.equal("alarms", len(w.Alarms()), 1)
}

// Cluster time is a little slow on purpose; that alone must never raise an alarm, nor
// leave the licence dates behind.
func TestASlowClusterClockIsNoJump(t *testing.T) {
	w := newWorld(t)
	wall := launch
	for range 30 * 24 * 6 { // a month
		const step = 10 * time.Minute
		wall += ms(step)
		w.Advance(w.Now().Add(step-step/500), wall)
		w.equal("calendar", w.Calendar(), wall)
		w.equal("alarms", len(w.Alarms()), 0)
	}
}

// A clock that creeps ahead in small jumps gains no more than the drift.
func TestACreepingClockIsHeldToo(t *testing.T) {
	w := newWorld(t)
	for range 600 {
		w.Advance(w.Now().Add(time.Second), w.Calendar()+ms(lease.CalendarSlack))
	}
	if ahead := w.Calendar() - launch - ms(10*time.Minute); ahead > ms(lease.CalendarSlack+10*time.Minute/100) {
		t.Fatalf("%v gained in ten minutes", time.Duration(ahead)*time.Millisecond)
	}
}

func TestTimeNeverRunsBack(t *testing.T) {
	w := newWorld(t)
	w.wait(time.Hour)
	now := w.Now()
	w.Advance(now-1, 0)
	w.Advance(-5, -5)
	w.equal("now", w.Now(), now)
}

// What is shown of a pool whose licence has ended is when it ended, not that it never does.
func TestAnExpiredPoolShowsWhenItEnded(t *testing.T) {
	ends := launch + lease.Calendar(day/time.Millisecond)
	e := feature("cad", 2)
	e.Expiry = ends
	w := newWorld(t, e)
	w.must(checkout(1, "cad", 1))
	w.wait(2 * day)
	w.must(lease.Tick{})
	w.equal("expiry", w.Pools("")[0].Expiry, ends)
	later := feature("cad", 1)
	later.Expiry = ends + lease.Calendar(9*day/time.Millisecond)
	later.Serial = "later"
	w.must(lease.InstallLicence{Licence: licence("L-2", later)})
	w.equal("expiry of what is valid", w.Pools("")[0].Expiry, later.Expiry)
}
