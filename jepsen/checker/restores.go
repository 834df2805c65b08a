package checker

import "math"

// A restore takes back what was acknowledged between the backup and it. The entries that
// were taken back stay in the log, and so does what was answered of them: C1, C7, C8, C11
// and C12 hold as ever, and so do C3 and C4. Leases that it took away are among the
// entry's ended ones. This file has what the others need to know.

// restore is an entry that made the state after the entry at to the current one.
type restore struct{ at, to uint64 }

// undone says whether what happened at one entry was taken back before another.
func (l *Log) undone(entry, before uint64) bool {
	for _, x := range l.restores {
		if x.to < entry && entry < x.at && x.at <= before {
			return true
		}
	}
	return false
}

// beforeRestores is a time before which no operation was asked that can have met a
// restore.
func (r *Run) beforeRestores() int64 {
	if len(r.log.restores) == 0 {
		return math.MaxInt64
	}
	first, t := r.log.restores[0].at, int64(math.MaxInt64)
	for _, a := range r.acks {
		if a.index >= first {
			t = min(t, a.pair.Invoke.Time)
		}
	}
	return t
}
