package main

import (
	"reflect"
	"strings"
	"testing"
)

func noEnv(string) (string, bool) { return "", false }

func TestDefaultConfigIsValid(t *testing.T) {
	c := defaultConfig()
	if found := c.Validate(); len(found) > 0 {
		t.Fatalf("the defaults are refused: %v", found)
	}
}

func TestConfigInitIsValidAndHoldsTheDefaults(t *testing.T) {
	text, err := configTemplate()
	if err != nil {
		t.Fatal(err)
	}
	l, err := loadConfig(write(t, "node.yaml", text), noEnv, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.check(); err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Gossip.Key = l.Gossip.Key
	plain := func(c Config) string {
		var b strings.Builder
		for _, f := range (&loadedConfig{Config: c}).fields() {
			b.WriteString(f.key + "=" + f.text() + "\n")
		}
		return b.String()
	}
	if got, want := plain(l.Config), plain(want); got != want {
		t.Errorf("the written file says\n%s\nthe defaults are\n%s", got, want)
	}
	for _, f := range l.fields() {
		key := f.key[strings.LastIndexByte(f.key, '.')+1:]
		switch f.key {
		case "client.token", "client.cacert", "client.client_cert", "client.client_key", "client.format":
			continue // flags and variables rather than a file
		}
		if !strings.Contains(text, key+":") {
			t.Errorf("the written file does not mention %s", f.key)
		}
	}
}

func TestSettingsComeFromFlagThenEnvironmentThenFileThenDefault(t *testing.T) {
	file := write(t, "c.yaml", "client:\n  tenant: from-file\n  addr: 10.0.0.1:1\n  format: yaml\n")
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"SEATKEEPER_TENANT": "from-env", "SEATKEEPER_ADDR": "10.0.0.2:2"}[name]
		return v, ok
	}
	l, err := loadConfig(file, env, map[string]string{"client.tenant": "from-flag"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, got, want, origin string }{
		{"client.tenant", l.Client.Tenant, "from-flag", "flag"},
		{"client.addr", l.Client.Addr, "10.0.0.2:2", "env SEATKEEPER_ADDR"},
		{"client.format", l.Client.Format, "yaml", file + ":4"},
		{"client.token", l.Client.Token, "", ""},
	} {
		if c.got != c.want || l.origin[c.key] != c.origin {
			t.Errorf("%s = %q from %q, want %q from %q", c.key, c.got, l.origin[c.key], c.want, c.origin)
		}
	}
}

func TestServerReachableByOthersNeedsInsecure(t *testing.T) {
	for _, c := range []struct {
		name, bind, advertise string
		insecure, want        bool
	}{
		{"loopback", "127.0.0.1:7800", "", false, true},
		{"loopback of IPv6", "[::1]:7800", "", false, true},
		{"localhost", "localhost:7800", "", false, true},
		{"everywhere", "0.0.0.0:7800", "127.0.0.1:7800", false, false},
		{"everywhere of IPv6", "[::]:7800", "127.0.0.1:7800", false, false},
		{"without a host", ":7800", "127.0.0.1:7800", false, false},
		{"an address", "192.0.2.1:7800", "", false, false},
		{"a name", "node-1.example.com:7800", "", false, false},
		{"advertised to others", "127.0.0.1:7800", "192.0.2.1:7800", false, false},
		{"accepted", "0.0.0.0:7800", "192.0.2.1:7800", true, true},
		{"everywhere advertised", "0.0.0.0:7800", "0.0.0.0:7800", true, false},
		{"everywhere without an address to dial", "0.0.0.0:7800", "", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultConfig()
			cfg.API, cfg.Insecure = Endpoint{Bind: c.bind, Advertise: c.advertise}, c.insecure
			if found := cfg.Validate(); (len(found) == 0) != c.want {
				t.Errorf("problems %v, want valid: %v", found, c.want)
			}
		})
	}
}

func TestNumbersHaveLimits(t *testing.T) {
	for _, c := range []struct {
		key  string
		set  func(*Config)
		want bool
	}{
		{"limits.in_flight_per_tenant", func(c *Config) { c.Limits.InFlightPerTenant = 0 }, false},
		{"limits.in_flight_per_tenant", func(c *Config) { c.Limits.InFlightPerTenant = 1 }, true},
		{"snapshots.entries", func(c *Config) { c.Snapshots.Entries = minSnapshotEntries - 1 }, false},
		{"snapshots.entries", func(c *Config) { c.Snapshots.Entries = minSnapshotEntries }, true},
		{"snapshots.entries", func(c *Config) { c.Snapshots.Entries = maxSnapshotEntries + 1 }, false},
		{"snapshots.bytes", func(c *Config) { c.Snapshots.Bytes = minSnapshotBytes - 1 }, false},
		{"snapshots.bytes", func(c *Config) { c.Snapshots.Bytes = maxSnapshotBytes }, true},
		{"snapshots.bytes", func(c *Config) { c.Snapshots.Bytes = maxSnapshotBytes + 1 }, false},
	} {
		cfg := defaultConfig()
		c.set(&cfg)
		found := cfg.Validate()
		if (len(found) == 0) != c.want || len(found) > 0 && found[0].key != c.key {
			t.Errorf("%s: problems %v, want valid: %v", c.key, found, c.want)
		}
	}
}

func TestNearestKeyFindsWhatWasMeant(t *testing.T) {
	for typed, want := range map[string]string{"dta_dir": "data_dir", "trusted_key": "trusted_keys", "jion": "join", "zzzzzz": ""} {
		if got := nearestKey(typed, reflect.TypeFor[Config]()); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

func FuzzConfigFileNeverPanics(f *testing.F) {
	text, err := configTemplate()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{text, "", "- a", "a: b", "name: [", "name: {x: 1}", "\x00", "name: &a *a", "---\n---\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := loadConfig(write(t, "f.yaml", text), noEnv, nil)
		if err == nil {
			_ = l.check()
		}
	})
}
