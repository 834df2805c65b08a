package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// From when on a number is worth a finding, each with its reason.
const (
	// clockWarn and clockFail are how far calendars may be apart: licence dates and
	// certificates go by them, leases do not. The cluster believes five minutes.
	clockWarn = 2 * time.Second
	clockFail = time.Minute
	// rateWarn is what NTP may steer by; at 1/ClockMargin leases lose their safety.
	rateWarn = 0.0005
	rateFail = 1.0 / cluster.ClockMargin
	// syncWarn and syncFail: every commit waits for an fsync on a majority.
	syncWarn = 25 * time.Millisecond
	syncFail = 250 * time.Millisecond
	// spaceFail is where a leader refuses new seats.
	spaceWarn = 0.20
	spaceFail = 0.10
	// lagWarn entries take a second or two to apply; lagFail is a whole snapshot.
	lagWarn = 5000
	lagFail = cluster.DefaultSnapshotThreshold
	// silentWarn is many times what a follower waits before it elects.
	silentWarn = 2 * time.Second
	// spareFiles are open files beside connections: the log, the store, peers.
	spareFiles = 500
)

// judgeCluster looks at what the nodes say of themselves and of each other.
func (d *doctor) judgeCluster() {
	nodes := d.nodes()
	d.judgeBind(nodes)
	d.judgeIdentity(nodes)
	nodes = slices.DeleteFunc(nodes, func(v *visit) bool { return v.who.ClusterId != "" && v.who.ClusterId != d.cluster() })
	d.judgeQuorum(nodes)
	d.judgeVersions(nodes)
	d.judgeLogVersion(nodes)
	d.judgeTokens(nodes)
	d.judgeClocks(nodes)
	d.judgeGossipKeys(nodes)
	d.judgeReach(nodes)
	d.judgeAlarms(nodes)
	for _, v := range nodes {
		d.judgeLag(v.who)
		d.judgeDisk(v.who.Name, v.who.Disk)
		d.judgeNode(v.who)
	}
}

// judgeBind is said first: a node that listens on loopback only is what most calls for
// help come down to.
func (d *doctor) judgeBind(nodes []*visit) {
	var names, binds []string
	others := false
	note := func(name, bind string) {
		if host, _, err := net.SplitHostPort(bind); err == nil && isLoopback(host) && !slices.Contains(names, name) {
			names, binds = append(names, name), append(binds, bind)
		}
	}
	elsewhere := func(address string) {
		host, _, err := net.SplitHostPort(address)
		others = others || err == nil && !isLoopback(host)
	}
	if d.server != nil {
		note(d.server.Name, d.server.API.Bind)
		for _, a := range append([]string{d.server.API.Advertise, d.server.Raft.Advertise, d.server.Raft.Bind, d.server.Gossip.Advertise}, d.server.Join...) {
			elsewhere(a)
		}
	}
	for _, v := range nodes {
		note(v.who.Name, v.who.Api.GetBind())
		for _, m := range v.who.RaftState.GetMembers() {
			elsewhere(m.Address)
		}
	}
	if len(names) == 0 {
		return
	}
	x := finding{Level: levelWarn, Check: "bind", Node: strings.Join(names, ", "), first: true,
		What: fmt.Sprintf("bound to loopback only: %s (api.bind %s); no other host reaches that", strings.Join(names, ", "), strings.Join(binds, ", ")),
		Do:   "set api.bind: 0.0.0.0:7800 and api.advertise: THIS-HOST:7800 (with tls and tokens), the same for raft and gossip if nodes are on other hosts, and restart; nothing to do if all clients are on this host"}
	if others {
		x.Level = levelFail
	}
	d.add(x)
}

// judgeIdentity finds addresses at which another cluster answers.
func (d *doctor) judgeIdentity(nodes []*visit) {
	ours := d.cluster()
	for _, v := range d.visits {
		if id := v.clusterID(); id != "" && id != ours {
			d.fail("cluster", v.name(), fmt.Sprintf("at %s answers cluster %s, the others are of %s", v.address, id, ours), "take the address out of SEATKEEPER_ADDR (--addr), or point it at a node of the right cluster")
		}
	}
	for _, v := range nodes {
		for _, p := range v.who.Probes {
			if p.Port == "api" && p.Error == "" && (p.AnsweredId != p.Id || p.ClusterId != v.who.ClusterId) {
				d.fail("cluster", v.who.Name, fmt.Sprintf("%s looks for %s at %s and finds %s of cluster %s", v.who.Name, p.Id, p.Address, p.AnsweredId, p.ClusterId),
					"check api.advertise of that node, and what its name resolves to on "+v.who.Name)
			}
		}
	}
}

// cluster is the id that most nodes have, and of those with as many the first; "" if
// nobody told.
func (d *doctor) cluster() (ours string) {
	count := map[string]int{}
	for _, v := range d.visits {
		if id := v.clusterID(); id != "" {
			count[id]++
		}
	}
	for _, v := range d.visits {
		if id := v.clusterID(); count[id] > count[ours] {
			ours = id
		}
	}
	return ours
}

func (v *visit) clusterID() string {
	switch {
	case v.who != nil:
		return v.who.ClusterId
	case v.health != nil:
		return v.health.ClusterID
	}
	return ""
}

// judgeQuorum says who leads, and why nobody does.
func (d *doctor) judgeQuorum(nodes []*visit) {
	var newest *pb.RaftState
	for _, v := range nodes {
		s := v.who.RaftState
		if len(s.GetMembers()) == 0 {
			d.fail("quorum", v.who.Name, fmt.Sprintf("%s belongs to no cluster yet; by gossip it sees %s", v.who.Name, orNobody(v.who.GossipMembers)),
				"check join, gossip.key and cluster_name on it and on the others, and that as many nodes run as bootstrap_expect says")
			continue
		}
		if newest == nil || s.CommitIndex > newest.CommitIndex {
			newest = s
		}
	}
	if newest == nil {
		return
	}
	voters, there, missing := 0, 0, []string{}
	for _, m := range newest.Members {
		if !m.Voter {
			continue
		}
		voters++
		if slices.ContainsFunc(nodes, func(v *visit) bool { return v.who.Id == m.Id }) {
			there++
		} else {
			missing = append(missing, m.Id)
		}
	}
	leaders := d.leaders(nodes)
	switch {
	case len(leaders) == 0:
		d.fail("quorum", "", fmt.Sprintf("no leader: %d of %d voters answer and %d are needed; %s missing", there, voters, voters/2+1, orNobody(missing)),
			"start the missing nodes and see that they reach each other's Raft port; for good lost: the runbook, No leader")
	case len(missing) > 0:
		d.warn("quorum", "", fmt.Sprintf("%s leads; of %d voters %s do not answer here", leaders[0], voters, strings.Join(missing, ", ")),
			fmt.Sprintf("bring them back: the cluster works with %d of %d; what is lost for good is replaced as the runbook says (A node is lost)", voters/2+1, voters))
	default:
		d.ok("quorum", "", "%s leads; all %d voters answer", leaders[0], voters)
	}
	switch {
	case voters == 1 && len(newest.Members) > 1:
		d.warn("quorum", "", fmt.Sprintf("one of %d members votes: the cluster stops with it", len(newest.Members)), "seatkeeper operator autopilot state shows what keeps the others from their votes")
	case voters > 0 && voters%2 == 0:
		d.warn("quorum", "", fmt.Sprintf("%d voters survive no more losses than %d", voters, voters-1), "add a node, or remove one: three or five voters")
	}
}

// leaders are the leaders that nodes know, the most named first.
func (d *doctor) leaders(nodes []*visit) (list []string) {
	for _, v := range nodes {
		if l := v.who.RaftState.GetLeader(); l != "" && !slices.Contains(list, l) {
			list = append(list, l)
		}
	}
	if l := d.leading(); l != nil {
		return []string{l.Id}
	}
	return list
}

func orNobody(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, ", ")
}

func (d *doctor) judgeVersions(nodes []*visit) {
	by := map[string][]string{}
	for _, v := range nodes {
		by[v.who.Version] = append(by[v.who.Version], v.who.Name)
	}
	if len(by) < 2 {
		return
	}
	var parts []string
	for version, names := range by {
		parts = append(parts, fmt.Sprintf("%s on %s", version, strings.Join(names, ", ")))
	}
	slices.Sort(parts)
	d.warn("version", "", "versions differ: "+strings.Join(parts, "; "), "finish the upgrade: one node at a time, followers first (runbook, Upgrade)")
}

// judgeClocks compares calendars with the median of all, ours too, and rates with ours.
func (d *doctor) judgeClocks(nodes []*visit) {
	offsets := []time.Duration{0}
	for _, v := range nodes {
		if v.first != nil {
			ahead, _ := v.first.offset()
			offsets = append(offsets, ahead)
		}
	}
	slices.Sort(offsets)
	middle := offsets[(len(offsets)-1)/2]
	if off := (-middle).Abs(); off > clockWarn {
		d.warn("clock", osHost(), fmt.Sprintf("the clock of this machine is %s %s those of the nodes", off.Round(time.Millisecond), aheadOr(-middle)), "synchronise it: chronyc makestep, or systemctl restart systemd-timesyncd")
	}
	for _, v := range nodes {
		if v.first != nil {
			d.judgeClock(v, middle)
		}
	}
}

func (d *doctor) judgeClock(v *visit, middle time.Duration) {
	ahead, give := v.first.offset()
	off := ahead - middle
	const sync = "synchronise it with the others: chronyc makestep, or systemctl restart systemd-timesyncd"
	text := fmt.Sprintf("the clock of %s is %s %s the others'", v.who.Name, off.Abs().Round(time.Millisecond), aheadOr(off))
	switch {
	case off.Abs()-give > clockFail:
		d.fail("clock", v.who.Name, text+": licence dates and certificates go by it", sync)
	case off.Abs()-give > clockWarn:
		d.warn("clock", v.who.Name, text, sync)
	default:
		d.ok("clock", v.who.Name, "the clock of %s is within %s of the others'", v.who.Name, max(off.Abs(), give, time.Millisecond).Round(time.Millisecond))
	}
	rate, unsure, ok := v.rate()
	wrong := max(rate-1, 1-rate) - unsure
	text = fmt.Sprintf("the clock that leases run on goes %.4f times as fast on %s as here", rate, v.who.Name)
	switch {
	case !ok:
	case wrong > rateFail:
		d.fail("clock/rate", v.who.Name, text+": more than leases allow for", "do not let this node lead (seatkeeper operator raft transfer-leader), and look at its clock source (/sys/devices/system/clocksource)")
	case wrong > rateWarn:
		d.warn("clock/rate", v.who.Name, text, "look at its clock source (/sys/devices/system/clocksource) or its hypervisor")
	}
}

func aheadOr(off time.Duration) string {
	if off > 0 {
		return "ahead of"
	}
	return "behind"
}

// judgeGossipKeys compares what is told of the keys, among the nodes and with the config.
func (d *doctor) judgeGossipKeys(nodes []*visit) {
	by := map[string][]string{}
	for _, v := range nodes {
		by[v.who.GossipKeyId] = append(by[v.who.GossipKeyId], v.who.Name)
	}
	if d.server != nil {
		if keys, err := d.server.Gossip.gossipKeys(); err == nil && len(keys) > 0 {
			id := cluster.GossipKeyID(keys[0])
			by[id] = append(by[id], d.server.file)
		}
	}
	if len(by) < 2 {
		return
	}
	var parts []string
	for id, names := range by {
		slices.Sort(names)
		if id == "" {
			id = "none"
		}
		parts = append(parts, id+" on "+strings.Join(names, ", "))
	}
	slices.Sort(parts)
	d.fail("gossip/key", "", "the gossip key is not the same everywhere: "+strings.Join(parts, "; "),
		"put the same gossip.key into every node's config and restart; while keys are being replaced: finish it (runbook, Rotate certificates and keys)")
}

// judgeReach says which ports of which nodes others do not reach, and whether the other way
// is open. A node that nobody reaches on any port is said once.
func (d *doctor) judgeReach(nodes []*visit) {
	names := d.namesByID()
	total, failed := map[string]int{}, map[string]int{}
	for _, v := range nodes {
		for _, p := range v.who.Probes {
			total[whom(p)]++
			if p.Error != "" {
				failed[whom(p)]++
			}
		}
	}
	for _, v := range nodes {
		d.judgeReachOf(v.who, names, func(p *pb.PeerProbe) bool { return failed[whom(p)] == total[whom(p)] })
	}
	for _, to := range sortedKeys(failed) {
		switch {
		case failed[to] < total[to]:
		case strings.Contains(to, ":"):
			d.warn("reach/join", to, fmt.Sprintf("nobody answers at %s, an address of join", to), "start the node that belongs there, or take the address out of join on all nodes")
		default:
			d.fail("reach", to, fmt.Sprintf("%s is reached by nobody, on no port", names[to]), "is it up? Start it; if it runs, see that its addresses are those that seatkeeper members shows, and the firewalls between")
		}
	}
}

// whom a probe was meant for: a server id, or a join address.
func whom(p *pb.PeerProbe) string {
	if p.Id == "" {
		return p.Address
	}
	return p.Id
}

var portNames = map[string]string{"api": "API", "raft": "Raft", "gossip_tcp": "gossip (TCP)", "gossip_udp": "gossip (UDP)"}

// judgeReachOf is the part of one node; gone are those that nobody reaches.
func (d *doctor) judgeReachOf(w *pb.ExamineResponse, names map[string]string, gone func(*pb.PeerProbe) bool) {
	good := map[string][]string{}
	for _, p := range w.Probes {
		to := names[p.Id]
		if to == "" {
			to = p.Address
		}
		switch {
		case p.Error == "":
			good[to] = append(good[to], portNames[p.Port])
			continue
		case gone(p):
			continue
		}
		key, _, _ := strings.Cut(p.Port, "_")
		what := fmt.Sprintf("%s does not reach %s at %s %s: %s", w.Name, to, portNames[p.Port], p.Address, p.Error)
		do := fmt.Sprintf("open the way from %s to %s; check %s.bind and %s.advertise there, and the firewall", w.Name, p.Address, key, key)
		switch {
		case p.Port == "gossip_udp" && slices.Contains(good[to], portNames["gossip_tcp"]):
			do = "allow UDP as well as TCP on the gossip port; if it is allowed: gossip.key and cluster_name must be the same on both"
		case d.reaches(p.Id, w.Id, p.Port):
			what += "; the other way is open"
			do = fmt.Sprintf("one direction is blocked: allow connections from %s to %s in the firewall, and check %s.advertise there", w.Name, p.Address, key)
		}
		d.fail("reach/"+p.Port, w.Name, what, do)
	}
	for _, to := range sortedKeys(good) {
		d.ok("reach", w.Name, "%s reaches %s: %s", w.Name, to, strings.Join(good[to], ", "))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (d *doctor) reaches(from, to, port string) bool {
	for _, v := range d.nodes() {
		if v.who.Id != from {
			continue
		}
		return slices.ContainsFunc(v.who.Probes, func(p *pb.PeerProbe) bool { return p.Id == to && p.Port == port && p.Error == "" })
	}
	return false
}

func (d *doctor) namesByID() map[string]string {
	names := map[string]string{}
	for _, v := range d.nodes() {
		for _, m := range v.who.RaftState.GetMembers() {
			names[m.Id] = m.Id
		}
	}
	for _, v := range d.nodes() {
		names[v.who.Id] = v.who.Name
	}
	return names
}

// judgeLag compares a follower with the leader.
func (d *doctor) judgeLag(w *pb.ExamineResponse) {
	leader, s := d.leading(), w.RaftState
	if leader == nil || leader.Id == w.Id || s == nil || leader.RaftState == nil {
		return
	}
	behind := max(int64(leader.RaftState.CommitIndex)-int64(s.AppliedIndex), 0)
	const do = "look at its disk and the network to the leader; a restart catches up from a snapshot"
	text := fmt.Sprintf("%s is %d entries behind the leader", w.Name, behind)
	switch silent := time.Duration(s.LastContactMs) * time.Millisecond; {
	case behind > lagFail:
		d.fail("lag", w.Name, text, do)
	case behind > lagWarn:
		d.warn("lag", w.Name, text, do)
	case silent > silentWarn:
		d.warn("lag", w.Name, fmt.Sprintf("%s has not heard of the leader for %s", w.Name, silent.Round(time.Millisecond)), "check the way from the leader to its Raft port")
	default:
		d.ok("lag", w.Name, "%s follows, %d entries behind", w.Name, behind)
	}
}
