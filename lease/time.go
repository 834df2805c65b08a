package lease

import (
	"math"
	"time"
)

// Time is cluster time: nanoseconds since the cluster's first entry. It is the
// only clock the rules know. It is not a calendar date, and no conversion to one
// exists on purpose: lost time (an outage) is missing from it for good.
type Time int64

// Never is later than every Time a cluster can reach.
const Never = Time(math.MaxInt64)

// Add returns t+d, held at Never instead of wrapping round.
func (t Time) Add(d time.Duration) Time {
	if d > 0 && int64(t) > math.MaxInt64-int64(d) {
		return Never
	}
	return t + Time(d)
}

// Sub returns the span from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Calendar is a calendar date and time in Unix milliseconds, UTC. It is used for
// licence dates and for what people read ("since 14:03"), never for a deadline.
// Zero means "no date".
type Calendar int64

// CalendarOf converts a wall-clock reading.
func CalendarOf(t time.Time) Calendar { return Calendar(t.UnixMilli()) }

// Time gives the date in UTC for printing.
func (c Calendar) Time() time.Time { return time.UnixMilli(int64(c)).UTC() }
