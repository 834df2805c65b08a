package client

import (
	"net"
	"strings"
	"testing"
)

// FuzzParseAddress: an address that is accepted is host:port in lower case, means itself
// when it is read again, and may be written as port@host.
func FuzzParseAddress(f *testing.F) {
	for _, a := range []string{"https://node-1.example.com:7800/", "http://[::1]:7800", "node-1", "7800@node-1", "@node-1", "[fe80::1%eth0]:7800", "a:b:c", "://", "host:", "7800@@x"} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, address string) {
		e, err := parseAddress(address)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Errorf("%q: %q is not one line", address, err)
			}
			return
		}
		host, port, err := net.SplitHostPort(e.hostPort)
		if err != nil || host == "" || port == "" {
			t.Fatalf("%q became %q", address, e.hostPort)
		}
		for _, again := range []string{e.hostPort, port + "@" + host} {
			if x, err := parseAddress(again); err != nil || x.hostPort != e.hostPort {
				t.Errorf("%q became %q, which written as %q is %+v (%v)", address, e.hostPort, again, x, err)
			}
		}
	})
}
