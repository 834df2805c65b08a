package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// writeBorrowed writes lmborrow -status: one line for each borrowed seat, with the local
// date until which it was given.
func writeBorrowed(w io.Writer, leases []*pb.LeaseEntry) {
	fmt.Fprintln(w, "lmborrow - Seatkeeper lmstat-format view")
	if len(leases) == 0 {
		fmt.Fprintln(w, "No licenses are borrowed.")
		return
	}
	fmt.Fprintf(w, "%-12s %-24s %s\n", "Vendor", "Feature", "Expiration")
	fmt.Fprintf(w, "%-12s %-24s %s\n", "________", "________", "__________")
	for _, l := range leases {
		until := l.GetUntil()
		if t, err := time.Parse(time.RFC3339, until); err == nil {
			until = strings.ToLower(t.Local().Format("2-Jan-2006 15:04"))
		}
		fmt.Fprintf(w, "%-12s %-24s %-18s %s@%s (handle %d)\n", lmVendorName(l.Vendor), lmFeatureName(l.Feature), until, lmUserName(l.User), lmHost(l.Host), l.Handle)
	}
}
