package main

import (
	"cmp"
	"context"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// What lmstat shows, gathered from the public API: status, leases, licences, queue and
// policy. Sums come from the rows shown, never from another answer, because two answers
// are of two instants.

// nodeFace is what a server's lines are made of.
type nodeFace struct{ name, address, role, version string }

func facesOf(nodes []*pb.NodeStatus) []nodeFace {
	var out []nodeFace
	for _, n := range nodes {
		name := n.Id
		if m := serverID.FindStringSubmatch(n.Id); m != nil {
			name = m[1]
		}
		out = append(out, nodeFace{name, n.Address, n.Role, n.Version})
	}
	return out
}

// serverID is NAME-INCARNATION.
var serverID = regexp.MustCompile(`^(.+)-[0-9a-f]{8}$`)

// lmNodes names each server by a DNS name whose first label is its own: the host of its
// API address if that is one, else the node's name.
func lmNodes(faces []nodeFace) []lmNode {
	var out []lmNode
	byAddress, labels := true, map[string]bool{}
	for _, f := range faces {
		host, _, _ := net.SplitHostPort(f.address)
		label, _, _ := strings.Cut(host, ".")
		byAddress = byAddress && hostName.MatchString(host) && net.ParseIP(host) == nil && host != "localhost" && !labels[label]
		labels[label] = true
	}
	clear(labels)
	for _, f := range faces {
		host, port, _ := net.SplitHostPort(f.address)
		n := lmNode{Host: host, Up: f.role != "unreachable", Master: f.role == "leader", Version: lmServerVersion(f.version)}
		if n.Port, _ = strconv.Atoi(port); n.Port == 0 {
			n.Port = apiPort
		}
		if !byAddress {
			n.Host = uniqueLabel(strings.ReplaceAll(lmHost(f.name), ".", "-"), labels)
		}
		out = append(out, n)
	}
	return out
}

// hostName has a letter in its first label, so that it is no address.
var hostName = regexp.MustCompile(`^[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*$`)

func uniqueLabel(label string, taken map[string]bool) string {
	for n, base := 2, label; taken[label]; n++ {
		label = base + "-" + strconv.Itoa(n)
	}
	taken[label] = true
	return label
}

// lmServerVersion keeps the digits of a version; a build without one is v1.0.
func lmServerVersion(version string) string {
	if m := versionDigits.FindString(strings.TrimPrefix(version, "v")); m != "" {
		return "v" + m
	}
	return "v1.0"
}

var versionDigits = regexp.MustCompile(`^\d+(\.\d+)*`)

// lmState is what the API answered.
type lmState struct {
	now    time.Time
	status *pb.StatusResponse
	leases []*pb.LeaseEntry
	places []*pb.QueuePlace
}

// gatherState asks the leader or, when there is none, any node for what it knows itself.
func gatherState(ctx context.Context, c *conn, tenant string) (*lmState, error) {
	s := &lmState{now: time.Now()}
	var err error
	s.status, err = leaderStatus(ctx, c, &pb.StatusRequest{Tenant: tenant})
	if err = apiError(err); isUnreachable(err) {
		ctx, cancel := context.WithTimeout(ctx, staleTimeout)
		defer cancel()
		var staleErr error
		if s.status, staleErr = c.cluster.Status(ctx, &pb.StatusRequest{Tenant: tenant, Stale: true}); staleErr == nil {
			s.status.Leader = "" // whoever led does not answer
			for _, n := range s.status.Nodes {
				if n.Role == "leader" {
					n.Role = "follower"
				}
			}
			return s, nil
		}
	}
	if err != nil {
		return nil, err
	}
	all, err := allLeases(ctx, c, &pb.LeasesRequest{Tenant: tenant})
	if err != nil {
		return nil, err
	}
	s.leases = all.Leases
	queue, err := c.client.Queue().QueueList(ctx, &pb.QueueListRequest{Tenant: tenant})
	if err != nil {
		return nil, apiError(err)
	}
	s.places = queue.Places
	return s, nil
}

// poolID is what a version block stands for: pools that differ in less are shown as one.
type poolID struct{ vendor, feature, version string }

// systemOf makes of the answers what lmstat shows.
func systemOf(s *lmState) *lmSystem {
	out := &lmSystem{Now: s.now, Nodes: lmNodes(facesOf(s.status.Nodes))}
	down := s.status.Leader == ""
	pools := map[poolID]*lmPool{}
	for _, p := range s.status.Pools {
		f := out.vendor(p.Vendor, down).feature(p.Feature)
		id := poolID{p.Vendor, p.Feature, p.Version}
		q := pools[id]
		if q == nil {
			q = &lmPool{Version: lmVersionOf(p.Version), Expiry: lmExpiry(p.Expiry)}
			pools[id] = q
			f.Pools = append(f.Pools, q)
		}
		if p.Uncounted {
			f.Uncounted = true
		} else {
			q.Issued += int(p.Total)
		}
		q.Reservations = append(q.Reservations, reservationsOf(p)...)
	}
	for _, l := range chargesOf(s.leases) {
		if q := pools[poolID{l.Vendor, l.Feature, l.Version}]; q != nil {
			q.Users = append(q.Users, userOf(l, s.now))
		}
	}
	for _, p := range s.places {
		for _, it := range p.Items {
			if q := out.poolFor(it); q != nil {
				q.Waiting = append(q.Waiting, lmWaiting{User: lmUserName(p.User), Host: lmHost(p.Host), Display: lmDisplay(p.Display),
					Version: lmVersionOf(cmp.Or(it.Version, q.Version)), Handle: p.Ticket, Count: int(max(it.Count, 1))})
			}
		}
	}
	return out
}

// poolFor is the pool that a request waits for: the lowest version that fits and has so many
// seats, else the lowest that fits, or the highest there is.
func (s *lmSystem) poolFor(it *pb.Item) (best *lmPool) {
	fits := false
	for _, d := range s.Vendors {
		for _, f := range d.Features {
			if f.Name != lmFeatureName(it.Feature) {
				continue
			}
			for _, q := range f.Pools { // lowest version first
				fit := lease.CompareVersions(q.Version, it.Version) >= 0
				if fit && q.Issued >= int(it.Count) {
					return q
				}
				if !fits {
					best, fits = q, fit
				}
			}
		}
	}
	return best
}

// reservationsOf are what of a pool is kept: by the policy for those it names, and by
// bookings, which stand together as GROUP bookings. Seats that pay for other features, as
// tokens or as seats of a suite, stand as GROUP other_features: nobody is shown with them.
func reservationsOf(p *pb.PoolStatus) (list []lmReservation) {
	booked := int(p.Reserved)
	for _, r := range p.ReservedFor {
		booked -= int(r.Seats)
		if r.Seats > 0 {
			list = append(list, lmReservation{int(r.Seats), lmReservedType(r.WhoType), lmReservedName(r.WhoType, r.Who)})
		}
	}
	if booked > 0 {
		list = append(list, lmReservation{booked, "GROUP", "bookings"})
	}
	if p.Drawn > 0 {
		list = append(list, lmReservation{int(p.Drawn), "GROUP", "other_features"})
	}
	return list
}

// lmReservedType is one of FlexNet's types.
func lmReservedType(who string) string {
	switch t := strings.ToUpper(who); t {
	case "USER", "HOST", "DISPLAY", "HOST_GROUP", "INTERNET", "PROJECT":
		return t
	}
	return "GROUP"
}

func lmReservedName(who, name string) string {
	switch lmReservedType(who) {
	case "USER", "DISPLAY", "PROJECT", "INTERNET":
		return lease.FlexNetWord(name)
	case "HOST":
		return lmHost(name)
	}
	return lmGroup(name)
}

// chargesOf leaves one lease for each charge: the oldest of a share group, with what the
// largest of them takes.
func chargesOf(leases []*pb.LeaseEntry) []*pb.LeaseEntry {
	type charge struct {
		poolID
		number uint32
	}
	sorted := slices.Clone(leases)
	slices.SortStableFunc(sorted, func(a, b *pb.LeaseEntry) int { return strings.Compare(a.Since, b.Since) })
	first := map[charge]*pb.LeaseEntry{}
	var out []*pb.LeaseEntry
	for _, l := range sorted {
		k := charge{poolID{l.Vendor, l.Feature, l.Version}, l.Charge}
		if one := first[k]; one != nil && l.Charge != 0 {
			one.Count = max(one.Count, l.Count)
			continue
		}
		one := &pb.LeaseEntry{User: l.User, Host: l.Host, Display: l.Display, Handle: l.Handle, Since: l.Since, Count: l.Count,
			Vendor: l.Vendor, Feature: l.Feature, Version: l.Version, Until: l.Until, RemainingMs: l.RemainingMs, State: l.State}
		first[k] = one
		out = append(out, one)
	}
	return out
}

func userOf(l *pb.LeaseEntry, now time.Time) lmUser {
	since, err := time.Parse(time.RFC3339, l.Since)
	if err != nil {
		since = now
	}
	u := lmUser{User: lmUserName(l.User), Host: lmHost(l.Host), Display: lmDisplay(l.Display), Handle: uint64(l.Handle),
		Since: since.In(now.Location()), Count: int(l.Count)}
	switch l.State {
	case "borrowed", "quarantined", "lingering":
		u.Linger = time.Duration(l.RemainingMs) * time.Millisecond
		u.LingerOf = max(now.Sub(since), 0) + u.Linger
		if until, err := time.Parse(time.RFC3339, l.GetUntil()); err == nil {
			u.LingerOf = max(until.Sub(since), u.Linger) // the same each time it is asked
		}
	}
	return u
}

// vendor and feature find or make what a row belongs to.
func (s *lmSystem) vendor(name string, down bool) *lmVendor {
	name = lmVendorName(name)
	for _, d := range s.Vendors {
		if d.Name == name {
			return d
		}
	}
	d := &lmVendor{Name: name, Version: s.master().Version, Down: down}
	s.Vendors = append(s.Vendors, d)
	return d
}

func (d *lmVendor) feature(name string) *lmFeature {
	name = lmFeatureName(name)
	for _, f := range d.Features {
		if f.Name == name {
			return f
		}
	}
	f := &lmFeature{Name: name}
	d.Features = append(d.Features, f)
	return f
}
