package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Bounds of one examination. All addresses are visited at once, so it takes no longer
// than the slowest of them: the names, one connection, one answer, and the clocks.
const (
	lookupBound  = 2 * time.Second
	connectBound = 2 * time.Second
	healthBound  = 2 * time.Second
	examineBound = 6 * time.Second // the node's own tries are in it
	licenceBound = 4 * time.Second
	// doctorBound ends everything: two rounds of visits, then the licences.
	doctorBound = 40 * time.Second
	// clockApart is the time between two looks at a clock; clockReads each look, of which
	// the quickest counts.
	clockApart = 1500 * time.Millisecond
	clockReads = 5
	clockBound = time.Second
	// maxVisits bounds the addresses: a cluster has five nodes, and some have two names.
	maxVisits = 32
)

// Levels of findings.
const (
	levelOK   = "ok"
	levelWarn = "warn"
	levelFail = "fail"
)

// finding is one thing that was looked at.
type finding struct {
	Level string `json:"level"`
	// Check is what was looked at; these names do not change.
	Check string `json:"check"`
	// Node is whom it is about: a node's name, or an address.
	Node string `json:"node,omitempty"`
	What string `json:"what"`
	Do   string `json:"do,omitempty"`

	first bool // said before everything else
}

// findings are what was found so far.
type findings struct {
	mu   sync.Mutex
	list []finding
}

func (f *findings) add(x finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x.What, x.Do = printable(oneLine(x.What)), printable(oneLine(x.Do)) // what strangers answer is in it
	f.list = append(f.list, x)
}

func (f *findings) ok(check, node, format string, args ...any) {
	f.add(finding{Level: levelOK, Check: check, Node: node, What: fmt.Sprintf(format, args...)})
}

func (f *findings) warn(check, node, what, do string) {
	f.add(finding{Level: levelWarn, Check: check, Node: node, What: what, Do: do})
}

func (f *findings) fail(check, node, what, do string) {
	f.add(finding{Level: levelFail, Check: check, Node: node, What: what, Do: do})
}

// sorted are the findings in the order of how much they matter.
func (f *findings) sorted() []finding {
	rank := map[string]int{levelFail: 0, levelWarn: 1, levelOK: 2}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.Clone(f.list)
	slices.SortStableFunc(list, func(a, b finding) int {
		if a.first != b.first {
			return map[bool]int{true: -1, false: 1}[a.first]
		}
		return cmp.Or(rank[a.Level]-rank[b.Level], orderOf(a.Check)-orderOf(b.Check), strings.Compare(a.Check, b.Check), strings.Compare(a.Node, b.Node))
	})
	return list
}

// checks are in the order in which somebody would look: the first that is wrong often is why
// the next ones are.
var checks = []string{"bind", "config", "address", "name", "api", "tls", "token", "cluster", "quorum", "reach", "gossip", "disk", "clock",
	"lag", "licence", "pool", "version", "limits", "alarm", "history"}

func orderOf(check string) int {
	first, _, _ := strings.Cut(check, "/")
	return slices.Index(checks, first)
}

// doctor examines a cluster from here, and the node of this host if its config is given.
type doctor struct {
	findings
	client Client
	// server is the config of the node on this host; nil: none was given.
	server *loadedConfig
	// files are licence files to look at before they are applied.
	files []string
	now   func() time.Time
	// tryDir tries the disk of a directory.
	tryDir func(ctx context.Context, dir string) cluster.DiskTried

	apart  time.Duration
	visits []*visit
	dated  map[string]bool // certificates whose dates were judged, by fingerprint
}

// report is what comes out.
type doctorReport struct {
	// Examined is when, RFC 3339; From is where.
	Examined string    `json:"examined"`
	From     string    `json:"from"`
	Failed   int       `json:"failed"`
	Warnings int       `json:"warnings"`
	OK       int       `json:"ok"`
	Reached  int       `json:"nodes_reached"`
	Findings []finding `json:"findings"`
}

// examine looks at everything. It returns what it has when ctx ends or its own time does.
func (d *doctor) examine(ctx context.Context) *doctorReport {
	ctx, cancel := context.WithTimeout(ctx, doctorBound)
	defer cancel()
	if d.now == nil {
		d.now = time.Now
	}
	var local sync.WaitGroup
	if d.server != nil {
		local.Go(func() { d.lookAtConfig(ctx) })
	}
	d.visitAll(ctx, d.addresses())
	d.visitAll(ctx, d.membersFound())
	local.Wait()
	d.lookAtOwnDisk(ctx)
	d.judgeVisits()
	d.judgeCluster()
	d.judgeLicences(ctx)
	return d.report()
}

func (d *doctor) report() *doctorReport {
	r := &doctorReport{Examined: d.now().UTC().Format(time.RFC3339), From: osHost(), Findings: d.sorted()}
	for _, x := range r.Findings {
		switch x.Level {
		case levelFail:
			r.Failed++
		case levelWarn:
			r.Warnings++
		default:
			r.OK++
		}
	}
	for _, v := range d.visits {
		if v.answered() {
			r.Reached++
		}
	}
	return r
}

// addresses are where to begin: those of the settings, and this host's own node.
func (d *doctor) addresses() []string {
	list := splitList(d.client.Addr)
	if d.server == nil {
		return list
	}
	own := advertised(d.server.API.Bind, d.server.API.Advertise)
	bound := d.server.API.Bind
	if host, port, err := net.SplitHostPort(bound); err == nil && isWildcard(host) {
		bound = net.JoinHostPort("127.0.0.1", port)
	}
	if d.server.origin["client.addr"] == "" {
		list = nil // it is a guess, and here we know better
	}
	if d.server.TLS.Cert != "" {
		own, bound = "https://"+own, "https://"+bound
	}
	return append(list, own, bound)
}

// membersFound are the API addresses of members that nobody named.
func (d *doctor) membersFound() (list []string) {
	for _, v := range d.visits {
		for _, m := range v.who.GetRaftState().GetMembers() {
			if m.ApiAddress != "" {
				list = append(list, withScheme(v.given, m.ApiAddress))
			}
		}
	}
	return list
}

// visitAll visits those that were not visited yet, all at once.
func (d *doctor) visitAll(ctx context.Context, addresses []string) {
	var wg sync.WaitGroup
	for _, a := range addresses {
		hostPort, secure, err := client.HostPort(a)
		if err != nil {
			d.fail("address", a, err.Error(), "write the address as host:port, https://host:port or port@host")
			continue
		}
		seen := func(v *visit) bool { return v.address == hostPort }
		if slices.ContainsFunc(d.visits, seen) || len(d.visits) >= maxVisits {
			continue
		}
		v := &visit{given: a, address: hostPort, secure: secure, client: d.client, apart: d.apart}
		d.visits = append(d.visits, v)
		wg.Go(func() { v.pay(ctx) })
	}
	wg.Wait()
}

// nodes are those that answered the examination, each once, by id.
func (d *doctor) nodes() []*visit {
	var list []*visit
	for _, v := range d.visits {
		if v.who != nil && !slices.ContainsFunc(list, func(o *visit) bool { return o.who.Id == v.who.Id }) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *visit) int { return strings.Compare(a.who.Id, b.who.Id) })
	return list
}

// leading is the node that leads by its own word; nil: none that answered.
func (d *doctor) leading() *pb.ExamineResponse {
	for _, v := range d.nodes() {
		if v.who.RaftState.GetState() == "leader" {
			return v.who
		}
	}
	return nil
}
