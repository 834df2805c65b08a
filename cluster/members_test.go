package cluster

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
)

func TestFoundersAreChosenAlikeEverywhere(t *testing.T) {
	m := func(id string, expect int) Member { return Member{ID: id, RaftAddress: id + ":1", Expect: expect} }
	founded := m("d", 3)
	founded.Founded = true
	for _, tc := range []struct {
		name    string
		members []Member
		want    string
	}{
		{"too few", []Member{m("a", 3), m("b", 3)}, ""},
		{"just enough", []Member{m("c", 3), m("a", 3), m("b", 3)}, "abc"},
		{"the lowest of more", []Member{m("d", 3), m("c", 3), m("a", 3), m("b", 3)}, "abc"},
		{"others expect something else", []Member{m("a", 3), m("b", 5), m("c", 3)}, ""},
		{"who only joins does not found", []Member{m("a", 3), m("b", 0), m("c", 3), m("d", 3)}, "acd"},
		{"a cluster is there already", []Member{m("a", 3), m("b", 3), m("c", 3), founded}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got strings.Builder
			for _, f := range chooseFounders(tc.members, 3) {
				got.WriteString(f.ID)
			}
			if got.String() != tc.want {
				t.Errorf("founders %q, want %q", got.String(), tc.want)
			}
		})
	}
}

func TestGossipMetadataAlwaysFits(t *testing.T) {
	long := strings.Repeat("x", maxNameLen)
	m := Member{ID: long + "-01234567", Name: long, RaftAddress: strings.Repeat("r", maxNameLen) + ":65535",
		APIAddress: strings.Repeat("a", 2*maxNameLen), Expect: 9, Founded: true, DiskLow: true,
		ClusterID: randomID(), Founders: digest([]Member{{ID: "x"}}), Recoveries: 99, Lineage: "01234567", Run: "01234567"}
	meta, err := json.Marshal(m)
	if err != nil || len(meta) > memberlist.MetaMaxSize {
		t.Errorf("%d bytes, error %v: %d would panic in memberlist", len(meta), err, memberlist.MetaMaxSize+1)
	}
	m.RaftAddress = strings.Repeat("r", 300)
	if err := (&gossip{}).setMeta(m); err == nil {
		t.Error("metadata that would panic in memberlist was taken")
	}
}

func TestNodesOfAnotherClusterNameOrKeyStayOut(t *testing.T) {
	for name, set := range map[string]func(c *Config){
		"name": func(c *Config) { c.ClusterName = "other" },
		"key":  func(c *Config) { c.GossipKeys = [][]byte{make([]byte, gossipKeyLen)} },
	} {
		t.Run(name, func(t *testing.T) {
			home := start(t, testConfig(t, "home", filepath.Join(t.TempDir(), "home"), 1))
			leaderOf(t, home)
			cfg := testConfig(t, "away", filepath.Join(t.TempDir(), "away"), 0, gossipAddr(home))
			set(&cfg)
			away := start(t, cfg)
			if n, err := away.discovery.(*gossip).list.Join(cfg.Join); err == nil || n > 0 {
				t.Errorf("joined %d, error %v", n, err)
			}
			if p := home.Peers(); len(p) != 1 {
				t.Errorf("peers %+v", p)
			}
		})
	}
}
