package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func TestLmstatTakesItsFlagsInAnyOrder(t *testing.T) {
	for _, c := range []struct {
		args string
		want lmstatFlags
		view lmView
	}{
		{"", lmstatFlags{}, lmView{NoFeatures: true}},
		{"-a", lmstatFlags{all: true}, lmView{}},
		{"-a -c 7800@n1,7800@n2 -t 5", lmstatFlags{all: true, list: "7800@n1,7800@n2", timeout: 5 * time.Second}, lmView{}},
		{"-c 7800@n1 -f cad -A", lmstatFlags{list: "7800@n1", features: true, feature: "cad", active: true}, lmView{Feature: "cad", Active: true}},
		{"-f -S acme", lmstatFlags{features: true, vendors: true, vendor: "acme"}, lmView{Vendor: "acme"}},
		{"-s n1", lmstatFlags{servers: true, server: "n1"}, lmView{ServersOnly: true, NoFeatures: true}},
		{"-s -a", lmstatFlags{servers: true, all: true}, lmView{}},
		{"-asec", lmstatFlags{all: true, seconds: true}, lmView{Seconds: true}},
		{"-i cad", lmstatFlags{licences: true, licence: "cad"}, lmView{NoFeatures: true}},
		{"-v", lmstatFlags{version: true}, lmView{NoFeatures: true}},
	} {
		got, err := parseLmstat(strings.Fields(c.args))
		if err != nil || got != c.want || got.view() != c.view {
			t.Errorf("lmstat %s: %+v (view %+v) %v\nwant %+v (view %+v)", c.args, got, got.view(), err, c.want, c.view)
		}
	}
	for _, args := range []string{"-x", "-c", "-t", "-t 0", "-t x", "cad"} {
		if _, err := parseLmstat(strings.Fields(args)); err == nil {
			t.Errorf("lmstat %s is taken", args)
		}
	}
}

func TestLinksMakeToolsOfTheProgram(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"/usr/bin/seatkeeper status", "status"},
		{"lmutil lmstat -a", "lmutil lmstat -a"},
		{"/opt/bin/lmstat -a -c x", "lmutil lmstat -a -c x"},
		{"LMREMOVE.EXE f u h d", "lmutil lmremove f u h d"},
		{"lmdown", "lmutil lmdown"},
	} {
		if got := lmArgs(strings.Fields(c.args)); strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %s", c.args, got, c.want)
		}
	}
}

func TestServerListsOfFlexNetAreUnderstood(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.lic")
	text := "# ours\nSERVER n1.example.com ANY 7800\nserver n2 001122334455\nVENDOR acme\nUSE_SERVER\nSERVER n3 ANY 7820 x\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]string{
		"":                        "",
		"7800@n1":                 "7800@n1",
		"7800@n1,7810@n2":         "7800@n1,7810@n2",
		"7800@n1:7810@n2:@n3":     "7800@n1,7810@n2,@n3",
		file:                      "n1.example.com:7800,n2:7800,n3:7820",
		"n1:7800":                 "n1:7800",
		"7800@10.0.0.1,7800@host": "7800@10.0.0.1,7800@host",
	} {
		if got, err := lmServers(list); err != nil || got != want {
			t.Errorf("-c %s: %q %v, want %q", list, got, err, want)
		}
	}
	if _, err := lmServers("/no/such/file.lic"); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func TestLmremoveKnowsHoldersByTheNamesShown(t *testing.T) {
	l := &pb.LeaseEntry{Feature: "cad", User: "Ann Lee", Host: "build_7", Display: "", Handle: 42}
	for args, want := range map[string]bool{
		"cad Ann_Lee build-7 -":    true,
		"cad Ann_Lee build-7":      true,
		"cad Ann_Lee build_7 -":    true,
		"cad Ann_Lee build-7 :0":   false,
		"cad bob build-7 -":        false,
		"mesh Ann_Lee build-7 -":   false,
		"-h cad node-1 7800 42":    true,
		"-h cad node-1 7800 43":    false,
		"-c 7800@n1 -h cad n 1 42": true,
	} {
		h, _, err := parseLmremove(strings.Fields(args))
		if err != nil || h.names(l) != want {
			t.Errorf("lmremove %s: %v %v, want %v", args, h.names(l), err, want)
		}
	}
	for _, args := range []string{"", "cad", "-h cad n 1", "-h cad n 1 x", "a b c d e"} {
		if _, _, err := parseLmremove(strings.Fields(args)); err == nil {
			t.Errorf("lmremove %s is taken", args)
		}
	}
}

// TestAShareGroupIsOneLine: sums of lines are what is charged, not how many sessions run.
func TestAShareGroupIsOneLine(t *testing.T) {
	lease := func(handle, charge uint32, user, since string, count int32) *pb.LeaseEntry {
		return &pb.LeaseEntry{Feature: "cad", Version: "1.0", Vendor: "acme", Handle: handle, Charge: charge, User: user, Host: "h", Since: since, Count: count}
	}
	got := chargesOf([]*pb.LeaseEntry{
		lease(3, 7, "ann", "2026-01-01T10:00:05Z", 3), lease(1, 7, "ann", "2026-01-01T10:00:00Z", 1), lease(2, 8, "bob", "2026-01-01T10:00:02Z", 2),
	})
	if len(got) != 2 || got[0].Handle != 1 || got[0].Count != 3 || got[1].User != "bob" || got[1].Count != 2 {
		t.Errorf("lines %v, want ann's oldest lease with 3 seats and bob's with 2", got)
	}
}

func TestServersAreNamedByLabelsOfTheirOwn(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []nodeFace
		want  []string
	}{
		{"by DNS name", []nodeFace{{"a", "n1.example.com:7800", "leader", ""}, {"b", "n2.example.com:7800", "follower", ""}}, []string{"n1.example.com", "n2.example.com"}},
		{"addresses are no names", []nodeFace{{"node-1", "127.0.0.1:7800", "leader", ""}, {"node-2", "127.0.0.1:7810", "follower", ""}}, []string{"node-1", "node-2"}},
		{"one label twice", []nodeFace{{"node-1", "n1.a:7800", "leader", ""}, {"node-2", "n1.b:7800", "follower", ""}}, []string{"node-1", "node-2"}},
		{"underscores", []nodeFace{{"node_1", "n_1.a:7800", "leader", ""}, {"node-2", "n2:7800", "follower", ""}}, []string{"node-1", "node-2"}},
		{"one name twice", []nodeFace{{"n", "", "leader", ""}, {"n", "", "unreachable", ""}}, []string{"n", "n-2"}},
	} {
		var got []string
		for _, n := range lmNodes(c.nodes) {
			got = append(got, n.Host)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
