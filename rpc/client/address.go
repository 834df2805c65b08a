package client

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
)

// DefaultPort is the API port of a node.
const DefaultPort = 7800

// DefaultAddress is used where no address is given.
const DefaultAddress = "127.0.0.1:7800"

// endpoint is one node's API address: host:port in lower case, and whether it was
// written with https.
type endpoint struct {
	hostPort string
	secure   bool
}

// parseAddress reads https://host:port, http://host:port, host:port, host and
// FlexNet's port@host. Without a scheme it means plain text, without a port 7800.
func parseAddress(s string) (endpoint, error) {
	s = strings.TrimSpace(s)
	fail := func(why string) (endpoint, error) {
		return endpoint{}, fmt.Errorf("address %.100q: %s; write https://host:port, host:port or port@host", s, why)
	}
	var e endpoint
	rest, hasScheme := s, false
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		switch strings.ToLower(scheme) {
		case "https":
			e.secure = true
		case "http":
		default:
			return fail("scheme is neither http nor https")
		}
		rest, hasScheme = strings.TrimSuffix(after, "/"), true
	}
	if strings.ContainsAny(rest, "/?# \t") {
		return fail("no path belongs here")
	}
	host, port := rest, ""
	if before, after, ok := strings.Cut(rest, "@"); ok {
		if hasScheme {
			return fail("port@host takes no scheme")
		}
		port, host = before, after
		if port == "" {
			port = strconv.Itoa(DefaultPort) // FlexNet's @host: the default port
		}
	} else if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
	} else if strings.Count(rest, ":") == 1 {
		return fail("port is missing")
	} else {
		port = strconv.Itoa(DefaultPort)
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if host == "" {
		return fail("host is missing")
	}
	if strings.ContainsAny(host, "@[]") || strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fail("host is no name")
	}
	if strings.Contains(host, ":") && net.ParseIP(strings.Split(host, "%")[0]) == nil {
		return fail("host is neither a name nor an IP address")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fail("port is not a number from 1 to 65535")
	}
	e.hostPort = strings.ToLower(net.JoinHostPort(host, port))
	return e, nil
}

// HostPort reads an address as Config.Addresses takes it, and says whether TLS is meant.
func HostPort(address string) (hostPort string, secure bool, err error) {
	e, err := parseAddress(address)
	return e.hostPort, e.secure, err
}
