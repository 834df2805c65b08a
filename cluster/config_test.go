package cluster

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigIsRefusedWithOneLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(c *Config)
		want string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "node name"},
		{"strange name", func(c *Config) { c.Name = "a b" }, "node name"},
		{"long name", func(c *Config) { c.Name = strings.Repeat("a", 64) }, "node name"},
		{"strange cluster name", func(c *Config) { c.ClusterName = "a/b" }, "cluster name"},
		{"no API address", func(c *Config) { c.APIAddress = "" }, "API address"},
		{"negative expectation", func(c *Config) { c.BootstrapExpect = -1 }, "bootstrap_expect"},
		{"founding alone while joining", func(c *Config) { c.BootstrapExpect, c.Join = 1, []string{"x:1"} }, "bootstrap_expect 1"},
		{"few trailing logs", func(c *Config) { c.TrailingLogs = MaxEntriesInFlight }, "trailing logs"},
		{"many entries in flight", func(c *Config) { c.EntriesInFlight = MaxEntriesInFlight + 1 }, "entries in flight"},
		{"slow tick", func(c *Config) { c.Tick = 2 * time.Second }, "tick"},
		{"hasty watchdog", func(c *Config) { c.Watchdog = time.Second }, "watchdog"},
		{"lease above heartbeat", func(c *Config) { c.LeaderLeaseTimeout = time.Second }, "raft timeouts"},
		{"no data directory", func(c *Config) { c.DataDir = "" }, "data directory is missing"},
		{"raft address without port", func(c *Config) { c.RaftAddr = "127.0.0.1" }, "want host:port"},
		{"port out of range", func(c *Config) { c.RaftAddr = "127.0.0.1:70000" }, "port"},
		{"everywhere without advertising", func(c *Config) { c.RaftAddr = "0.0.0.0:0" }, "advertise"},
		{"gossip without key", func(c *Config) { c.GossipAddr = "192.0.2.1:7802" }, "set a gossip key"},
		{"short key", func(c *Config) { c.GossipKeys = [][]byte{make([]byte, 16)} }, "gossip key has 16 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 3)
			tc.set(&cfg)
			n, err := Start(cfg)
			if err == nil {
				stop(t, n)
			}
			checkLine(t, err, tc.want)
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := (Config{Name: "n", APIAddress: "n:7800"}).Validate(); err != nil {
		t.Error(err)
	}
}
