package license

import "github.com/seatkeeper/seatkeeper/lease"

// Check says whether a licence is of use to the cluster at calendar time now. It
// returns nil if at least one feature is valid or in its days of grace, and otherwise a *Error:
//
//	WrongCluster  it is bound to another cluster (also when clusterID is empty)
//	NotStarted    no feature is valid now, but at least one will be; it may be
//	              installed ahead of its time
//	Expired       no feature is valid now and none will be
func Check(l lease.Licence, clusterID string, now lease.Calendar) error {
	if l.Cluster != "" && l.Cluster != clusterID {
		return failf(WrongCluster, "licence %s is bound to cluster %q, this is %q: ask %s for one for this cluster", l.ID, l.Cluster, clusterID, l.Vendor)
	}
	var first, last lease.Calendar
	for _, e := range l.Entitlements {
		switch e.StandingAt(now) {
		case lease.Expired:
			last = max(last, e.GraceEnd())
		case lease.NotYet:
			if first == 0 || e.Start < first {
				first = e.Start
			}
		default:
			return nil
		}
	}
	if first != 0 {
		return failf(NotStarted, "licence %s starts on %s (UTC): wait until then, or ask %s for an earlier start", l.ID, formatDay(first), l.Vendor)
	}
	return failf(Expired, "licence %s ended after %s (UTC): ask %s for a new one", l.ID, formatLastDay(last), l.Vendor)
}
