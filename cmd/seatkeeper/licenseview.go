package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// drawFeatures draws licences with one row per feature.
func drawFeatures(t *table, licences []*pb.License) {
	t.row("LICENCE", "VENDOR", "FEATURE", "VERSION", "COUNT", "START", "EXPIRY", "STATE", "SERIAL", "LIFESPAN", "GRACE", "SHARE", "TERMS")
	for _, l := range licences {
		for _, f := range l.Features {
			t.row(l.Id, l.Vendor, f.Feature, f.Version, seatsOf(f.Uncounted, f.Count), dayIn(f.Start, f.Lineage.GetTz()), expiryOf(f.Expiry, f.Lineage.GetTz()), f.State, f.Serial,
				millis(f.LifespanMs), millis(f.GraceMs), f.Share, featureTerms(f))
		}
	}
}

func seatsOf(uncounted bool, count int32) string {
	if uncounted {
		return "uncounted"
	}
	return fmt.Sprint(count)
}

// featureTerms says in short what a licence grants beyond seats and dates.
func featureTerms(f *pb.LicenseFeature) string {
	var terms []string
	some := func(is bool, format string, args ...any) {
		if is {
			terms = append(terms, fmt.Sprintf(format, args...))
		}
	}
	if p := f.Package; p != nil {
		var parts []string
		for _, c := range p.Components {
			part := c.Feature
			if c.Version != "" {
				part += ":" + c.Version
			}
			if c.Count != 1 {
				part += fmt.Sprint(" x", c.Count)
			}
			parts = append(parts, part)
		}
		kind := "package"
		if p.Suite {
			kind = "suite"
		}
		terms = append(terms, kind+" of "+strings.Join(parts, " "))
	}
	if k := f.Tokens; k != nil {
		terms = append(terms, fmt.Sprintf("%d of %s a seat", k.Cost, k.Feature))
	}
	line := f.Lineage
	some(f.GraceDays > 0, "%d days of grace", f.GraceDays)
	some(f.Overdraft > 0, "overdraft %d", f.Overdraft)
	some(f.BorrowHours > 0, "borrow %dh", f.BorrowHours)
	some(f.LingerMs > 0, "linger %s", millis(f.LingerMs))
	some(f.IdleFloorMs > 0, "idle floor %s", millis(f.IdleFloorMs))
	some(f.MinCheckoutMs > 0, "minimum checkout %s", millis(f.MinCheckoutMs))
	some(line.GetTz() != "", "days of UTC%s", line.GetTz())
	some(line.GetIssued() != "", "issued %s", day(line.GetIssued()))
	some(len(line.GetSupersedes()) > 0, "supersedes %s", strings.Join(line.GetSupersedes(), " "))
	some(line.GetVariant() != "", "variant %s", line.GetVariant())
	return strings.Join(terms, ", ")
}

// poolNotes says in short what few pools have.
func poolNotes(p *pb.PoolStatus) string {
	var notes []string
	some := func(is bool, format string, args ...any) {
		if is {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	some(p.OverUse > 0, "%d over", p.OverUse)
	some(p.HeldBack > 0, "%d held back", p.HeldBack)
	some(p.InUse > p.Total+p.OverUse && !p.Uncounted, "%d overdraft", p.InUse-p.Total-p.OverUse)
	some(p.InGrace > 0, "in grace until %s", expiryOf(p.GraceEnd, ""))
	some(p.GetTerms().GetSuite(), "suite")
	if d := p.Draw; d != nil && d.Suite {
		notes = append(notes, "with suite "+d.Feature)
	} else if d != nil {
		notes = append(notes, fmt.Sprintf("%d of %s a seat", d.Cost, d.Feature))
	}
	some(p.Drawn > 0, "%d pay for others", p.Drawn)
	some(len(p.Packages) > 0 && p.Draw == nil, "from %s", strings.Join(p.Packages, " "))
	some(p.GetTerms().GetVariant() != "", "variant %s", p.GetTerms().GetVariant())
	return strings.Join(notes, ", ")
}

// dayIn is the day of an RFC 3339 instant where the offset tz says; "" is UTC.
func dayIn(instant, tz string) string {
	t, err := time.Parse(time.RFC3339, instant)
	if err != nil {
		return instant
	}
	if zone, err := time.Parse("-07:00", tz); err == nil {
		t = t.In(zone.Location())
	}
	return t.Format(time.DateOnly)
}

// expiryOf is the last day of validity, given the first instant after it.
func expiryOf(instant, tz string) string {
	if instant == "" {
		return "never"
	}
	t, err := time.Parse(time.RFC3339, instant)
	if err != nil {
		return instant
	}
	return dayIn(t.Add(-time.Second).Format(time.RFC3339), tz)
}

// drawPools draws pools with one row each; what few have stands in a last column.
func drawPools(t *table, pools []*pb.PoolStatus) {
	noted := slices.ContainsFunc(pools, func(p *pb.PoolStatus) bool { return poolNotes(p) != "" })
	row := func(notes string, cells ...any) {
		if noted {
			cells = append(cells, notes)
		}
		t.row(cells...)
	}
	row("NOTES", "FEATURE", "VERSION", "VENDOR", "TOTAL", "IN USE", "FREE", "EXPIRING", "EXPIRY")
	for _, p := range pools {
		total, free := fmt.Sprint(p.Total), fmt.Sprint(max(0, p.Total-p.InUse-p.Reserved-p.HeldBack))
		if p.Uncounted {
			total, free = "uncounted", ""
		}
		row(poolNotes(p), p.Feature, p.Version, p.Vendor, total, p.InUse, free, p.Expiring, expiryOf(p.Expiry, ""))
	}
}
