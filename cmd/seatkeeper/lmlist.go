package main

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxLicenceFile bounds a file named by -c: licences are at most 256 KiB.
const maxLicenceFile = 1 << 20

// lmServers reads FlexNet's -c LIST: port@host entries with commas (or, as on Unix,
// colons) between them, or a licence file whose SERVER lines name the servers. It returns
// API addresses as --addr takes them; "" means the settings'.
func lmServers(list string) (string, error) {
	if list == "" {
		return "", nil
	}
	if !strings.Contains(list, "@") {
		if data, err := readLimited(list, maxLicenceFile); err == nil {
			return serverLines(string(data)), nil
		} else if !errors.Is(err, os.ErrNotExist) || strings.ContainsAny(list, "/\\") {
			return "", err
		}
	}
	return serverList(list), nil
}

// serverList takes port@host entries apart at commas and colons.
func serverList(list string) string {
	return strings.Join(splitList(colonList.ReplaceAllString(list, ",$1@")), ",")
}

// colonList finds where a colon stands between two port@host.
var colonList = regexp.MustCompile(`:(\d*)@`)

// serverLines reads SERVER host hostid [port] of a licence file.
func serverLines(text string) string {
	var list []string
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 3 || !strings.EqualFold(w[0], "SERVER") {
			continue
		}
		port := strconv.Itoa(apiPort)
		if len(w) > 3 {
			if _, err := strconv.ParseUint(w[3], 10, 16); err == nil {
				port = w[3]
			}
		}
		list = append(list, net.JoinHostPort(w[1], port))
	}
	return strings.Join(list, ",")
}

// lmError is a failure in FlexNet's words. Programs that end with it exit 256 - |code|.
type lmError struct {
	code int
	text string
}

func (e *lmError) Error() string { return e.text }

func (e *lmError) exit() error { return &exitError{code: 256 + e.code} }

// The failures of tools, as FlexNet words them.
var (
	lmNoFile      = &lmError{-1, "Cannot find license file. (-1,359)"}
	lmSyntax      = &lmError{-2, "Invalid license file syntax. (-2,413)"}
	lmNoFeature   = &lmError{-18, "License server system does not support this feature. (-18,327)"}
	lmNeverOut    = &lmError{-41, "Feature was never checked out. (-41,219)"}
	lmNotAdmin    = &lmError{-63, "You are not a license administrator. (-63,294)"}
	lmTooSoon     = &lmError{-64, "lmremove too soon. (-64,270)"}
	lmVendorGone  = &lmError{-97, "The desired vendor daemon is down. (-97,121)"}
	lmCannotReach = &lmError{-15, `Cannot connect to license server system. (-15,570:115 "Operation now in progress")`}
	lmRefusedConn = &lmError{-15, `Cannot connect to license server system. (-15,570:111 "Connection refused")`}
	lmHostDown    = &lmError{-96, `License server machine is down or not responding. (-96,7:2 "No such file or directory")`}
)

// probeTimeout bounds the look at why nobody answers.
const probeTimeout = time.Second

// whyUnreachable finds the words for a cluster of which no node answers: those of its
// first address.
func whyUnreachable(ctx context.Context, addresses []string) *lmError {
	if len(addresses) == 0 {
		return lmRefusedConn
	}
	address := strings.TrimPrefix(strings.TrimPrefix(addresses[0], "https://"), "http://")
	if port, host, ok := strings.Cut(address, "@"); ok {
		address = net.JoinHostPort(host, port)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	var dns *net.DNSError
	switch {
	case err == nil:
		c.Close() // somebody listens, who does not speak for a cluster
		return lmVendorGone
	case errors.As(err, &dns):
		return lmHostDown
	case errors.Is(err, syscall.ECONNREFUSED):
		return lmRefusedConn
	}
	return lmCannotReach
}
