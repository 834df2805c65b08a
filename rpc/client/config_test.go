package client

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"n1":                  "n1:7800",
		"N1:99":               "n1:99",
		"27000@lic":           "lic:27000",
		"@lic":                "lic:7800",
		"https://n1:443":      "https n1:443",
		"HTTPS://n1/":         "https n1:7800",
		"http://n1":           "n1:7800",
		"[::1]:5":             "[::1]:5",
		"::1":                 "[::1]:7800",
		"[fe80::1]":           "[fe80::1]:7800",
		"":                    "error",
		":7800":               "error",
		"n1:":                 "error",
		"n1:x":                "error",
		"n1:0":                "error",
		"n1:70000":            "error",
		"ftp://n1":            "error",
		"http://n1/v1":        "error",
		"a b":                 "error",
		"http://1@n1":         "error",
		"x@n1":                "error",
		"a:b:c":               "error",
		"https://n1:443?x=1":  "error",
		"https://user@n1:443": "error",
	} {
		e, err := parseAddress(in)
		got := e.hostPort
		switch {
		case err != nil:
			got = "error"
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: more than one line: %v", in, err)
			}
		case e.secure:
			got = "https " + got
		}
		if got != want {
			t.Errorf("%q: got %q, want %q (%v)", in, got, want, err)
		}
	}
}

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestEnvironmentFillsWhatIsEmpty(t *testing.T) {
	env := map[string]string{EnvAddr: " https://a:1, https://b ,", EnvToken: "t\n", EnvTenant: "x", EnvCACert: "ca.pem",
		EnvCheckInterval: "30", EnvRetryCount: "7", EnvRetryInterval: "2"}
	c, err := Config{Tenant: "mine"}.withEnv(lookupIn(env))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Addresses, []string{"https://a:1", "https://b"}) || c.Token != "t" || c.Tenant != "mine" || c.CACert != "ca.pem" ||
		c.CheckInterval != 30*time.Second || c.RetryCount != 7 || c.RetryInterval != 2*time.Second {
		t.Errorf("got %+v", c)
	}
	if c, err = (Config{Addresses: []string{"z"}, RetryCount: 9}).withEnv(lookupIn(env)); err != nil || c.Addresses[0] != "z" || c.RetryCount != 9 {
		t.Errorf("the struct does not win: %+v, %v", c, err)
	}
}

func TestSecondsAreHeldAboveTheirFloors(t *testing.T) {
	c, err := Config{}.withEnv(lookupIn(map[string]string{EnvCheckInterval: "-1", EnvRetryCount: "0", EnvRetryInterval: "0"}))
	if err != nil {
		t.Fatal(err)
	}
	if c = c.withDefaults(); c.CheckInterval != MinCheckInterval || c.RetryCount != MinRetryCount || c.RetryInterval != MinRetryInterval {
		t.Errorf("got %+v", c)
	}
	_, err = Config{}.withEnv(lookupIn(map[string]string{EnvCheckInterval: "soon", EnvRetryCount: "1e9"}))
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), EnvCheckInterval) {
		t.Errorf("want a line for each of two mistakes, got %v", err)
	}
}

func TestValidateSaysEachMistakeInOneLine(t *testing.T) {
	cases := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"zero value", Config{}, nil},
		{"good", Config{Addresses: []string{"https://a", "https://b:1"}, TLS: &tls.Config{}}, nil},
		{"two bad addresses", Config{Addresses: []string{"a:x", "", "ok"}}, []string{"a:x", "host is missing"}},
		{"mixed", Config{Addresses: []string{"https://a", "b"}}, []string{"mixed"}},
		{"certificates in plain text", Config{Addresses: []string{"a"}, CACert: "ca"}, []string{"write https://"}},
		{"half a pair", Config{Addresses: []string{"https://a"}, ClientCert: "c"}, []string{"go together"}},
		{"negative", Config{RetryCount: -1, CallTimeout: -1}, []string{"call timeout", "retry count"}},
		{"token with a line break", Config{Token: "a\nb"}, []string{"line break"}},
	}
	for _, c := range cases {
		err := c.cfg.Validate()
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
		}
		if len(lines) != len(c.want) {
			t.Errorf("%s: %d lines, want %d: %v", c.name, len(lines), len(c.want), err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in %v", c.name, w, err)
			}
		}
	}
	if _, err := New(Config{Addresses: []string{"https://a"}, CACert: "/nowhere/ca.pem"}); err == nil {
		t.Error("a missing CA file was accepted")
	}
}
