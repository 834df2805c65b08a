package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// The text of FlexNet's lmstat, as scripts, exporters and schedulers read it: every
// blank counts. What is shown comes in as plain data; nothing here asks a cluster.

// lmBanner is our first line, in the place where others have theirs.
const lmBanner = "lmutil - Seatkeeper lmstat-format view"

// lmSystem is a licence server system as lmstat shows it.
type lmSystem struct {
	Now     time.Time // on this host's clock
	Nodes   []lmNode
	Vendors []*lmVendor
}

// lmNode is one server. Host is a DNS name, never an address.
type lmNode struct {
	Host    string
	Port    int
	Up      bool
	Master  bool
	Version string // v[\d.]+
}

// lmVendor is one vendor and its features. Down: seats cannot be had just now.
type lmVendor struct {
	Name     string
	Version  string
	Down     bool
	Features []*lmFeature
}

// lmFeature is one feature of one vendor.
type lmFeature struct {
	Name      string
	Uncounted bool
	Pools     []*lmPool
}

// lmPool is what one version of a feature counts.
type lmPool struct {
	Version      string
	Expiry       string // d-mmm-yyyy
	Issued       int
	Reservations []lmReservation
	Users        []lmUser
	Waiting      []lmWaiting
}

// lmReservation is what is kept for somebody and not in use.
type lmReservation struct {
	Count      int
	Type, Name string // USER HOST DISPLAY GROUP HOST_GROUP INTERNET PROJECT
}

// lmUser is one charge: a lease, or the oldest lease of a share group with what the group
// is charged.
type lmUser struct {
	User, Host, Display string
	Handle              uint64
	Since               time.Time
	Count               int
	// Linger is what is left of a time that no heartbeat moves and LingerOf how long that
	// is in all; both 0: it is an ordinary lease.
	Linger, LingerOf time.Duration
}

// lmWaiting is one request in the queue.
type lmWaiting struct {
	User, Host, Display string
	Version             string // asked for
	Handle              uint64
	Count               int
}

// inUse is what the header says: the sum of the lines below it, always.
func (p *lmPool) inUse() (n int) {
	for _, r := range p.Reservations {
		n += r.Count
	}
	for _, u := range p.Users {
		n += u.Count
	}
	return n
}

func (p *lmPool) lines() int { return len(p.Reservations) + len(p.Users) + len(p.Waiting) }

// licences counts in the grammar of the format.
func licences(n int) string { return plural(n, "license") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// lmView is what of a system is asked for.
type lmView struct {
	// ServersOnly leaves the vendors out, NoFeatures their features.
	ServersOnly, NoFeatures bool
	// Feature and Vendor narrow it; empty means all.
	Feature, Vendor string
	// Active leaves out features that nobody uses or waits for.
	Active bool
	// Seconds shows start times with seconds.
	Seconds bool
}

// lmPrinter writes the view.
type lmPrinter struct {
	w    io.Writer
	view lmView
}

func (p *lmPrinter) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

// lmHeading is how every answer begins.
func lmHeading(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "%s\nFlexible License Manager status on %s\n", lmBanner, now.Format("Mon 1/2/2006 15:04"))
}

// writeSystem writes lmstat's answer.
func writeSystem(w io.Writer, s *lmSystem, v lmView) {
	p := &lmPrinter{w: w, view: v}
	lmHeading(w, s.Now)
	p.servers(s)
	if v.ServersOnly {
		return
	}
	for _, d := range s.Vendors {
		if v.Vendor == "" || d.Name == v.Vendor {
			p.vendor(s, d)
		}
	}
}

func (p *lmPrinter) servers(s *lmSystem) {
	var list []string
	for _, n := range s.Nodes {
		list = append(list, strconv.Itoa(n.Port)+"@"+n.Host)
	}
	p.line("License server status: %s", strings.Join(list, ","))
	if len(s.Nodes) > 0 {
		p.line("    License file(s) on %s: floating.lic:", s.Nodes[0].Host)
	}
	p.line("")
	for _, n := range s.Nodes {
		switch {
		case !n.Up:
			label, _, _ := strings.Cut(n.Host, ".")
			p.line(`%s: Cannot connect to license server system. (-15,570:115 "Operation now in progress")`, label)
		case n.Master:
			p.line("%s: license server UP (MASTER) %s", n.Host, n.Version)
		default:
			p.line("%s: license server UP %s", n.Host, n.Version)
		}
	}
}

func (p *lmPrinter) vendor(s *lmSystem, d *lmVendor) {
	at := s.master()
	p.line("")
	p.line("Vendor daemon status (on %s):", at.Host)
	p.line("")
	if d.Down {
		p.line("  %s: The desired vendor daemon is down. (-97,121)", d.Name)
		return
	}
	p.line("  %s: UP %s", d.Name, d.Version)
	if p.view.NoFeatures {
		return
	}
	p.line("Feature usage info:")
	p.line("")
	for _, f := range d.Features {
		if p.wants(f) {
			p.feature(d, f, at)
		}
	}
}

// master is the server that answers for the vendors.
func (s *lmSystem) master() lmNode {
	for _, n := range s.Nodes {
		if n.Master {
			return n
		}
	}
	for _, n := range s.Nodes {
		if n.Up {
			return n
		}
	}
	return lmNode{Host: "unknown"}
}

func (p *lmPrinter) wants(f *lmFeature) bool {
	if p.view.Feature != "" && f.Name != p.view.Feature {
		return false
	}
	if !p.view.Active {
		return true
	}
	return slices.ContainsFunc(f.Pools, func(q *lmPool) bool { return q.lines() > 0 })
}

func (p *lmPrinter) feature(d *lmVendor, f *lmFeature, at lmNode) {
	issued, used := 0, 0
	for _, q := range f.Pools {
		issued += q.Issued
		used += q.inUse()
	}
	if f.Uncounted {
		p.line("Users of %s:  (Uncounted, node-locked)", f.Name)
	} else {
		p.line("Users of %s:  (Total of %s issued;  Total of %s in use)", f.Name, licences(issued), licences(used))
	}
	for _, q := range f.Pools {
		if q.lines() > 0 {
			p.pool(d, f, q, at)
		}
	}
}

func (p *lmPrinter) pool(d *lmVendor, f *lmFeature, q *lmPool, at lmNode) {
	p.line("")
	p.line(`  "%s" v%s, vendor: %s, expiry: %s`, f.Name, q.Version, d.Name, q.Expiry)
	if f.Uncounted {
		p.line("  uncounted nodelocked license")
	} else {
		p.line("  floating license")
	}
	p.line("")
	for _, r := range q.Reservations {
		p.line("\t%s for %s %s (%s/%d)", plural(r.Count, "RESERVATION"), r.Type, r.Name, at.Host, at.Port)
	}
	for _, u := range q.Users {
		p.user(q, &u, at)
	}
	for _, x := range q.Waiting {
		p.line("    %s %s %s %s (v%s) (%s/%d %d) queued for %s", x.User, x.Host, x.Display, x.Version, q.Version,
			at.Host, at.Port, x.Handle, licences(x.Count))
	}
}

func (p *lmPrinter) user(q *lmPool, u *lmUser, at lmNode) {
	layout := "Mon 1/2 15:04"
	if p.view.Seconds {
		layout += ":05"
	}
	start := u.Since.Format(layout)
	if u.Since.Hour() < 10 {
		start = strings.Replace(start, " 0", " ", 1) // %-H
	}
	more := ""
	if u.Count != 1 {
		more = ", " + licences(u.Count)
	}
	if u.LingerOf > 0 {
		more += fmt.Sprintf("  (linger: %d / %d)", int64(u.Linger/time.Second), int64(u.LingerOf/time.Second))
	}
	p.line("    %s %s %s (v%s) (%s/%d %d), start %s%s", u.User, u.Host, u.Display, q.Version, at.Host, at.Port, u.Handle, start, more)
}

// lmLicence is one line of an installed licence.
type lmLicence struct {
	Feature, Version, Vendor string
	Count                    int // 0: uncounted
	Expiry                   string
}

// writeLicences writes lmstat -i: what is licensed, not what is in use.
func writeLicences(w io.Writer, now time.Time, list []lmLicence) {
	lmHeading(w, now)
	fmt.Fprint(w, `
NOTE: lmstat -i does not give information from the server,
      but only reads the license file.  For this reason,
      lmstat -a is recommended instead.

Feature                         Version     #licenses    Expires      Vendor
_______                         _________   _________    __________   ______
`)
	for _, l := range list {
		// A long name keeps its blank, or the columns run together.
		fmt.Fprintf(w, "%-31s %-11s %-12d %-12s %s\n", l.Feature, l.Version, l.Count, l.Expiry, l.Vendor)
	}
}

// lmNever is an expiry that never comes.
const lmNever = "1-jan-0"

// lmExpiry writes an expiry of the API, the first instant after the last day, as that day.
func lmExpiry(rfc3339 string) string {
	t, err := time.Parse(time.RFC3339, rfc3339)
	if err != nil {
		return lmNever
	}
	return strings.ToLower(t.Add(-time.Millisecond).UTC().Format("2-Jan-2006"))
}

// Names in lines that other programs take apart at blanks. What cannot stand there is
// replaced; lmremove and lmborrow know a holder by the replaced name too.

func lmUserName(s string) string    { return lease.FlexNetWord(s) }
func lmFeatureName(s string) string { return lease.FlexNetWord(s) }

// lmDisplay is a display in one word; none shows as a dash, so that columns stay.
func lmDisplay(s string) string {
	if s == "" {
		return "-"
	}
	return lease.FlexNetWord(s)
}

// lmHost is a host name in letters, digits, dashes and dots.
func lmHost(s string) string { return lease.FlexNetHost(s) }

// lmVendorName and lmGroup are \w+.
func lmVendorName(s string) string { return lease.FlexNetName(s) }
func lmGroup(s string) string      { return lease.FlexNetName(s) }

// lmVersionOf is [\w.]+.
func lmVersionOf(s string) string {
	if s == "" {
		return "0"
	}
	parts := strings.Split(s, ".")
	for i, p := range parts {
		if p != "" {
			parts[i] = lease.FlexNetName(p)
		}
	}
	return strings.Join(parts, ".")
}
