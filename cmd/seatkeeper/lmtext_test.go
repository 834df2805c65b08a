package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// golden compares text with a file of testdata; with SEATKEEPER_GOLDEN=write it is written.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("SEATKEEPER_GOLDEN") == "write" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", name, got, want)
	}
}

// richSystem is a cluster with something of everything.
func richSystem() *lmSystem {
	at := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2025, month, day, hour, minute, 7, 0, time.UTC)
	}
	return &lmSystem{
		Now: at(2, 10, 11, 26),
		Nodes: []lmNode{
			{Host: "node-1.example.com", Port: 7800, Up: true, Version: "v1.0"},
			{Host: "node-2.example.com", Port: 7800, Up: true, Master: true, Version: "v1.0"},
			{Host: "node-3.example.com", Port: 7800},
		},
		Vendors: []*lmVendor{
			{Name: "acme", Version: "v1.0", Features: []*lmFeature{
				{Name: "cad", Pools: []*lmPool{
					{Version: "2025.0", Expiry: "31-dec-2025", Issued: 2, Users: []lmUser{
						{User: "old", Host: "ws-09", Display: "-", Handle: 12, Since: at(1, 2, 0, 5), Count: 1},
					}},
					{Version: "2026.0", Expiry: "31-dec-2027", Issued: 10,
						Reservations: []lmReservation{{Count: 2, Type: "GROUP", Name: "designers"}, {Count: 1, Type: "USER", Name: "zoe"}},
						Users: []lmUser{
							{User: "ann", Host: "ws-01", Display: "/dev/pts/0", Handle: 8804, Since: at(10, 20, 16, 33), Count: 4},
							{User: "bob", Host: "ws-02", Display: ":0", Handle: 401, Since: at(2, 10, 0, 10), Count: 1},
						},
						Waiting: []lmWaiting{{User: "eve", Host: "ws-03", Display: ":0", Version: "2026.0", Handle: 15480, Count: 1}},
					},
				}},
				{Name: "solver", Uncounted: true, Pools: []*lmPool{{Version: "3.1", Expiry: lmNever}}},
				{Name: "mesh", Pools: []*lmPool{{Version: "1.0", Expiry: lmNever, Issued: 1}}},
				{Name: "post", Pools: []*lmPool{{Version: "1.0", Expiry: "1-mar-2026", Issued: 20, Users: []lmUser{
					{User: "kim", Host: "laptop-7", Display: "-", Handle: 77, Since: at(5, 23, 5, 59), Count: 16, Linger: 885098 * time.Second, LingerOf: 1340160 * time.Second},
				}}}},
				{Name: "old_tool", Pools: []*lmPool{{Version: "1.0", Expiry: "1-jan-2024"}}},
			}},
			{Name: "other_co", Version: "v1.0", Features: []*lmFeature{{Name: "cad", Pools: []*lmPool{{Version: "1.0", Expiry: lmNever, Issued: 3}}}}},
		},
	}
}

func TestLmstatTextIsThatOfTheFormat(t *testing.T) {
	down := richSystem()
	for _, d := range down.Vendors {
		d.Down = true
	}
	down.Nodes[1].Master = false
	for _, c := range []struct {
		file   string
		system *lmSystem
		view   lmView
	}{
		{"lmstat-a.golden", richSystem(), lmView{}},
		{"lmstat-f.golden", richSystem(), lmView{Feature: "cad"}},
		{"lmstat-S.golden", richSystem(), lmView{Vendor: "other_co"}},
		{"lmstat-A.golden", richSystem(), lmView{Active: true}},
		{"lmstat-s.golden", richSystem(), lmView{ServersOnly: true}},
		{"lmstat.golden", richSystem(), lmView{NoFeatures: true}},
		{"lmstat-asec.golden", richSystem(), lmView{Seconds: true}},
		{"lmstat-noleader.golden", down, lmView{}},
	} {
		t.Run(c.file, func(t *testing.T) {
			var out bytes.Buffer
			writeSystem(&out, c.system, c.view)
			golden(t, c.file, out.String())
		})
	}
	var out bytes.Buffer
	writeLicences(&out, richSystem().Now, []lmLicence{
		{"cad", "2026.0", "acme", 10, "31-dec-2027"}, {"mesh", "1.0", "acme", 1, lmNever},
		{"a_feature_name_longer_than_its_column", "1.0", "acme", 0, lmNever},
	})
	golden(t, "lmstat-i.golden", out.String())
}

// consumer reads lmstat -a as exporters and schedulers do.
type consumer struct {
	servers  map[string]bool // first label: up
	vendors  map[string]string
	features []seenFeature
}

type seenFeature struct {
	name                   string
	issued, used           int
	lines, reserved, queue int // sums of seats; queued requests
}

var (
	reList     = regexp.MustCompile(`^License server status: (\d+@[^,]+(?:,\d+@[^,]+)*)$`)
	reServer   = regexp.MustCompile(`^([A-Za-z0-9.-]+): license server UP (?:\(MASTER\) )?v[\d.]+$`)
	reNoServer = regexp.MustCompile(`^([A-Za-z0-9-]+): Cannot connect to license server system\. \(-\d+,\d+:\d+ ".*"\)$`)
	reVendor   = regexp.MustCompile(`^  (\w+): UP (v[\d.]+)$`)
	reFeature  = regexp.MustCompile(`^Users of (\S+):  \(Total of (\d+) (licenses?) issued;  Total of (\d+) (licenses?) in use\)$`)
	reFree     = regexp.MustCompile(`^Users of (\S+):  \(Uncounted, node-locked\)$`)
	reBlock    = regexp.MustCompile(`^  "(\S+)" v([\w.]+), vendor: (\w+), expiry: (\d{1,2}-[a-z]{3}-\d{1,4})$`)
	reReserved = regexp.MustCompile(`^\t(?:1 RESERVATION|(\d+) RESERVATIONs) for (USER|HOST|DISPLAY|GROUP|HOST_GROUP|INTERNET|PROJECT) (\S+) \([A-Za-z0-9.-]+/\d+\)$`)
	reUser     = regexp.MustCompile(`^    (\S+) ([A-Za-z0-9.-]+) (\S*) \(v([\w.]+)\) \(([A-Za-z0-9.-]+)/(\d+) (\d+)\), start (Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\d{1,2})/(\d{1,2}) (\d{1,2}):(\d\d)(?:, (\d+) licenses)?(?:  \(linger: \d+ / \d+\))?$`)
	reQueued   = regexp.MustCompile(`^    (\S+) ([A-Za-z0-9.-]+) (\S*) ([\w.]+) \(v([\w.]+)\) \(([A-Za-z0-9.-]+)/(\d+) (\d+)\) queued for (\d+) licenses?$`)
	reKind     = regexp.MustCompile(`^  (floating license|uncounted nodelocked license)$`)
)

// consume fails on any line that a consumer would not know.
func consume(text string) (*consumer, error) {
	c := &consumer{servers: map[string]bool{}, vendors: map[string]string{}}
	labels := map[string]bool{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 1 // left out
		}
		return n
	}
	for i, l := range lines {
		var f *seenFeature
		if len(c.features) > 0 {
			f = &c.features[len(c.features)-1]
		}
		if m := reList.FindStringSubmatch(l); m != nil {
			for _, s := range strings.Split(m[1], ",") {
				_, host, _ := strings.Cut(s, "@")
				label, _, _ := strings.Cut(host, ".")
				if labels[label] || regexp.MustCompile(`^\d+$`).MatchString(label) {
					return nil, fmt.Errorf("line %d: label %q is no name of its own", i+1, label)
				}
				labels[label] = true
			}
		} else if m := reServer.FindStringSubmatch(l); m != nil {
			label, _, _ := strings.Cut(m[1], ".")
			if !labels[label] {
				return nil, fmt.Errorf("line %d: %s is not in the list of servers", i+1, label)
			}
			c.servers[label] = true
		} else if m := reNoServer.FindStringSubmatch(l); m != nil {
			c.servers[m[1]] = false
		} else if m := reVendor.FindStringSubmatch(l); m != nil {
			c.vendors[m[1]] = m[2]
			if lines[i-1] != "" || !strings.HasPrefix(lines[i-2], "Vendor daemon status (on ") && !strings.HasPrefix(lines[i-2], "  ") {
				return nil, fmt.Errorf("line %d: no blank line after the vendor's heading", i+1)
			}
		} else if m := reFeature.FindStringSubmatch(l); m != nil {
			if (m[2] == "1") != (m[3] == "license") || (m[4] == "1") != (m[5] == "license") {
				return nil, fmt.Errorf("line %d: grammar of %q", i+1, l)
			}
			c.features = append(c.features, seenFeature{name: m[1], issued: number(m[2]), used: number(m[4])})
		} else if m := reFree.FindStringSubmatch(l); m != nil {
			c.features = append(c.features, seenFeature{name: m[1], used: -1})
		} else if m := reReserved.FindStringSubmatch(l); m != nil {
			f.reserved += number(m[1])
		} else if m := reUser.FindStringSubmatch(l); m != nil {
			if m[13] == "1" {
				return nil, fmt.Errorf("line %d: one licence is not counted", i+1)
			}
			f.lines += number(m[13])
		} else if m := reQueued.FindStringSubmatch(l); m != nil {
			f.queue++
		} else if l == "" || reKind.MatchString(l) || reBlock.MatchString(l) || l == lmBanner || l == "Feature usage info:" ||
			strings.HasPrefix(l, "Flexible License Manager status on ") || strings.HasPrefix(l, "    License file(s) on ") || strings.HasPrefix(l, "Vendor daemon status (on ") {
			continue
		} else {
			return nil, fmt.Errorf("line %d: no consumer knows %q", i+1, l)
		}
	}
	for _, f := range c.features {
		if f.used >= 0 && f.used != f.lines+f.reserved {
			return nil, fmt.Errorf("%s: %d in use, but its lines come to %d and %d reserved", f.name, f.used, f.lines, f.reserved)
		}
	}
	return c, nil
}

func TestConsumersReadTheRichState(t *testing.T) {
	var out bytes.Buffer
	writeSystem(&out, richSystem(), lmView{})
	c, err := consume(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.servers) != 3 || c.servers["node-3"] || !c.servers["node-1"] {
		t.Errorf("servers %v", c.servers)
	}
	if len(c.vendors) != 2 || c.vendors["acme"] != "v1.0" {
		t.Errorf("vendors %v", c.vendors)
	}
	want := seenFeature{name: "cad", issued: 12, used: 9, lines: 6, reserved: 3, queue: 1}
	if c.features[0] != want || len(c.features) != 6 {
		t.Errorf("features %+v, first should be %+v", c.features, want)
	}
}

// TestHeaderSaysWhatTheLinesComeTo: whatever the state, and whatever people are called, a
// consumer can read every line and the sums agree.
func TestHeaderSaysWhatTheLinesComeTo(t *testing.T) {
	names := []string{"ann", "", "Jörg Müller", "a b", "x\ty", "build_farm_01", "a(b)", `q"q`, "10.1.2.3", "дом", ",", "DOM\\ann", ":0"}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		name := func() string { return names[rng.IntN(len(names))] }
		s := &lmSystem{Now: time.Unix(rng.Int64N(2e9), 0).UTC(), Nodes: lmNodes(randomNodes(rng))}
		for i := range 1 + rng.IntN(2) {
			d := &lmVendor{Name: lmVendorName(name() + fmt.Sprint(i)), Version: "v1.2"}
			for k := range rng.IntN(5) {
				f := &lmFeature{Name: lmFeatureName(name() + fmt.Sprint(k)), Uncounted: rng.IntN(6) == 0}
				for range 1 + rng.IntN(3) {
					q := &lmPool{Version: lmVersionOf(name() + "1.0"), Expiry: lmNever, Issued: rng.IntN(9)}
					for range rng.IntN(3) {
						q.Reservations = append(q.Reservations, lmReservation{1 + rng.IntN(3), "GROUP", lmGroup(name())})
					}
					for range rng.IntN(4) {
						q.Users = append(q.Users, lmUser{User: lmUserName(name()), Host: lmHost(name()), Display: lmDisplay(name()),
							Handle: rng.Uint64N(1 << 24), Since: time.Unix(rng.Int64N(2e9), 0).UTC(), Count: 1 + rng.IntN(5)})
					}
					for range rng.IntN(2) {
						q.Waiting = append(q.Waiting, lmWaiting{User: lmUserName(name()), Host: lmHost(name()), Display: lmDisplay(name()),
							Version: lmVersionOf(""), Handle: 7, Count: 1 + rng.IntN(2)})
					}
					f.Pools = append(f.Pools, q)
				}
				d.Features = append(d.Features, f)
			}
			s.Vendors = append(s.Vendors, d)
		}
		var out bytes.Buffer
		writeSystem(&out, s, lmView{})
		if _, err := consume(out.String()); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, out.String())
		}
	}
}

func randomNodes(rng *rand.Rand) (nodes []nodeFace) {
	for i := range 1 + rng.IntN(5) {
		addresses := []string{"127.0.0.1:7800", "node-a.example.com:7800", "node_x.example.com:7800", "[::1]:7810", "a.b:1", ""}
		nodes = append(nodes, nodeFace{name: fmt.Sprintf("node-%d", i+1), address: addresses[rng.IntN(len(addresses))],
			role: []string{"leader", "follower", "unreachable"}[rng.IntN(3)], version: []string{"devel", "v1.2.3", "v0.1.0-rc1+x", ""}[rng.IntN(4)]})
	}
	return nodes
}
