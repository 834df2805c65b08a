package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// lookAtConfig looks at what the config of this host's node says, and at the files that it
// names.
func (d *doctor) lookAtConfig(ctx context.Context) {
	l := d.server
	var bad *configError
	if errors.As(l.check(), &bad) {
		d.badConfig(bad)
	} else {
		d.ok("config", l.Name, "%s is valid: node %s of cluster %s", l.file, l.Name, l.ClusterName)
	}
	if l.Gossip.Key != "" || len(l.Gossip.Keys) > 0 {
		d.lookAtMode("config/mode", l.file, "the gossip key is in it")
	}
	if l.TLS.Key != "" {
		d.lookAtMode("tls/mode", l.TLS.Key, "it is the private key of this node")
	}
	d.lookAtCertificate()
	for _, e := range []struct{ key, address string }{
		{"api.advertise", l.API.Advertise}, {"raft.advertise", l.Raft.Advertise}, {"gossip.advertise", l.Gossip.Advertise}} {
		if e.address != "" {
			d.lookAtName(ctx, e.key, e.address, true)
		}
	}
	for _, j := range l.Join {
		d.lookAtName(ctx, "join", j, false)
	}
}

// badConfig tells each mistake with its place.
func (d *doctor) badConfig(c *configError) {
	for _, p := range c.problems {
		d.fail("config", "", p.line(c.file), fmt.Sprintf("put it right; seatkeeper config validate %s shows the place", c.file))
	}
}

// lookAtMode finds a secret that other users of this host may read. A group may, if the
// administrator made it so: packages keep the config root:seatkeeper 0640.
func (d *doctor) lookAtMode(check, file, why string) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		d.fail(check, "", fmt.Sprintf("%s: %s", file, fileMessage(err)), "put the file there, readable by the user that the server runs as")
	case runtime.GOOS == "windows":
	case info.Mode().Perm()&0o007 != 0:
		d.fail(check, "", fmt.Sprintf("%s may be read by everybody on this host (mode %04o): %s", file, info.Mode().Perm(), why), "chmod 600 "+file+", and replace the secret if others have accounts here")
	case info.Mode().Perm()&0o020 != 0:
		d.warn(check, "", fmt.Sprintf("%s may be written by its group (mode %04o)", file, info.Mode().Perm()), "chmod 600 "+file)
	default:
		d.ok(check, "", "%s may be read by its owner (mode %04o)", file, info.Mode().Perm())
	}
}

// lookAtCertificate looks at the node's certificate as the server does at its start, and
// at what it does not see: names and dates to come.
func (d *doctor) lookAtCertificate() {
	t := d.server.TLS
	if t.Cert == "" {
		return
	}
	const again = "seatkeeper tls cert create NAME --host HOST in the folder of the CA"
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		d.fail("tls/files", d.server.Name, fmt.Sprintf("tls.cert %s and tls.key %s: %s", t.Cert, t.Key, fileMessage(err)), "the two must be of one pair, and readable here")
		return
	}
	d.judgeDates("tls/dates", d.server.Name, "the certificate in "+t.Cert, pair.Leaf, again+", then systemctl reload seatkeeper")
	for _, ca := range readCertificates(t.CA) {
		d.judgeDates("tls/dates", d.server.Name, "the CA certificate in "+t.CA, ca, "make a new CA and let all trust both for a while (runbook, Rotate certificates and keys)")
	}
	roots, err := readRoots(t.CA)
	if err != nil {
		d.fail("tls/files", d.server.Name, err.Error(), "put the CA certificate of the cluster there")
		return
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: rest(&pair), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CurrentTime: midway(pair.Leaf, d.now())}
	if _, err := pair.Leaf.Verify(o); err != nil {
		d.fail("tls/chain", d.server.Name, fmt.Sprintf("the certificate in %s is not signed by the CA in %s", t.Cert, t.CA), again+"; all nodes need the same CA")
		return
	}
	if pair.Leaf.VerifyHostname(t.peerName()) != nil {
		d.fail("tls/name", d.server.Name, fmt.Sprintf("the certificate in %s does not name %s: other nodes refuse it", t.Cert, t.peerName()), again+" (never --client for a node)")
	}
	host, _, _ := net.SplitHostPort(advertised(d.server.API.Bind, d.server.API.Advertise))
	if !isWildcard(host) && pair.Leaf.VerifyHostname(host) != nil {
		d.fail("tls/name", d.server.Name, fmt.Sprintf("the certificate in %s is not for %s, which clients are sent to: it names %s", t.Cert, host, certNames(pair.Leaf)), "seatkeeper tls cert create NAME --host "+host+" in the folder of the CA")
	}
}

// lookAtName resolves the host of an address of the config. own says that it should be one
// of this host.
func (d *doctor) lookAtName(ctx context.Context, key, address string, own bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil && !own {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookupBound)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	switch {
	case err != nil:
		d.fail("name", d.server.Name, fmt.Sprintf("%s: the name %s does not resolve on this host", key, host), "put it into DNS or /etc/hosts on all nodes, or write an address")
	case own && !slices.ContainsFunc(found, isOwnAddress):
		d.warn("name", d.server.Name, fmt.Sprintf("%s: %s is %s, which is no address of this host", key, host, strings.Join(found, ", ")), "right only behind a NAT or a load balancer; else write this host's address")
	case net.ParseIP(host) == nil:
		d.ok("name", d.server.Name, "%s: %s is %s", key, host, strings.Join(found, ", "))
	}
}

func isOwnAddress(ip string) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	at := net.ParseIP(ip)
	return slices.ContainsFunc(list, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && (n.IP.Equal(at) || at.IsLoopback())
	})
}

// lookAtOwnDisk looks at the data directory when the node itself does not tell: a full disk
// is why it may not run.
func (d *doctor) lookAtOwnDisk(ctx context.Context) {
	if d.server == nil || slices.ContainsFunc(d.nodes(), func(v *visit) bool { return v.who.Name == d.server.Name }) {
		return
	}
	dir := d.server.DataDir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		d.warn("disk", d.server.Name, fmt.Sprintf("data_dir %s is not there: the node has never run here, or has lost it", dir), "an empty node joins as a new one: the runbook, A node is lost")
		return
	}
	t := d.tryDir(ctx, dir)
	p := &pb.DiskProbe{Dir: dir, FreeBytes: t.Free, TotalBytes: t.Total, Fsyncs: uint32(len(t.Syncs))}
	if n := len(t.Syncs); n > 0 {
		p.FsyncMedianUs, p.FsyncMaxUs = uint64(t.Syncs[n/2].Microseconds()), uint64(t.Syncs[n-1].Microseconds())
	}
	if t.Err != nil {
		p.Error = t.Err.Error()
	}
	d.judgeDisk(d.server.Name, p)
}

var tryDir = cluster.TryDir
