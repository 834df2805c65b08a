package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/bench"
	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// benchNeeds is what a benchmark wants of a cluster.
type benchNeeds struct {
	seats   int            // in the pool of the feature, for each tenant
	clients int            // at the same time, for whom there must be tenants enough
	tenants int            // at least
	own     bool           // it kills servers
	million *bench.Million // features to fill
}

// benchTarget is the cluster of --addr, or one that is started here and ended by end.
func (a *app) benchTarget(ctx context.Context, f benchFlags, needs benchNeeds) (t *bench.Target, end func() error, err error) {
	end = func() error { return nil }
	if a.flags["client.addr"] != "" {
		t, err = a.runningTarget(f, needs)
		return t, end, err
	}
	t = &bench.Target{Feature: f.feature}
	for i := range max(needs.tenants, bench.TenantsFor(needs.clients), 1) {
		t.Tenants = append(t.Tenants, fmt.Sprintf("tenant-%d", i+1))
	}
	d, err := startBench(ctx, f)
	if d != nil {
		end = d.stop
	}
	if err != nil {
		return nil, end, err
	}
	t.Addresses, t.DataDir, t.Nodes = splitList(d.address()), d.dir, benchNodes{d}
	return t, end, d.installTenants(ctx, t, needs)
}

func (a *app) runningTarget(f benchFlags, needs benchNeeds) (*bench.Target, error) {
	if needs.own {
		return nil, usagef("this benchmark kills servers: leave out --addr, and it starts its own")
	}
	t := &bench.Target{Feature: f.feature, Tenants: f.tenants, Token: a.cfg.Client.Token}
	if len(t.Tenants) == 0 {
		t.Tenants = []string{a.cfg.Client.Tenant}
	}
	for _, address := range splitList(a.cfg.Client.Addr) {
		if strings.HasPrefix(address, "https://") {
			return nil, usagef("bench speaks plain text only: %s", address)
		}
		t.Addresses = append(t.Addresses, strings.TrimPrefix(address, "http://"))
	}
	return t, nil
}

// startBench starts the servers of a benchmark. With an error it may return a cluster
// that must still be stopped.
func startBench(ctx context.Context, f benchFlags) (*devCluster, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	port := f.port
	if port == 0 {
		if port, err = freePorts(f.nodes); err != nil {
			return nil, err
		}
	}
	dir, temporary := f.dir, f.dir == ""
	if temporary {
		if dir, err = diskFolder(); err != nil {
			return nil, err
		}
	}
	d, err := newDevCluster(binary, dir, f.nodes, port)
	if err != nil {
		if temporary {
			os.RemoveAll(dir)
		}
		return nil, err
	}
	d.temporary = temporary
	for _, n := range d.nodes {
		n.cpus, n.env = f.serverCPUs, append([]string{"SEATKEEPER_LOG_STORE=" + f.logStore}, f.settings...)
	}
	if err := d.checkPorts("--port"); err != nil {
		return d, err
	}
	if err := d.start(); err != nil {
		return d, err
	}
	return d, d.waitReady(ctx)
}

// diskFolder makes a temporary folder where fsync means something.
func diskFolder() (string, error) {
	for _, under := range []string{"", "/var/tmp"} {
		dir, err := os.MkdirTemp(under, "seatkeeper-bench-")
		if err != nil {
			return "", err
		}
		if kind := load.ThisMachine(dir).FileSystem; kind != "tmpfs" && kind != "ramfs" {
			return dir, nil
		}
		os.RemoveAll(dir)
	}
	return "", exitf(exitError1, "the temporary folders are in memory, where fsync costs nothing: name one on a disk with --data-dir")
}

// installTenants installs a licence for each tenant.
func (d *devCluster) installTenants(ctx context.Context, t *bench.Target, needs benchNeeds) error {
	c, err := dialCluster(Client{Addr: d.address()}, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	key, err := readLimited(d.vendor.SignerFile, maxStateBytes)
	if err != nil {
		return err
	}
	for i, tenant := range t.Tenants {
		doc := license.Format(benchLicence(fmt.Sprintf("bench-%d", i+1), d.vendor.Name, tenant, t, needs))
		signed, err := license.Sign(doc, string(key))
		if err != nil {
			return err
		}
		if _, err := c.cluster.LicenseApply(ctx, &pb.LicenseApplyRequest{File: signed, Replace: true}); err != nil {
			return apiError(err)
		}
	}
	return nil
}

// benchLicence has seats for everything that the benchmark takes.
func benchLicence(id, vendor, tenant string, t *bench.Target, needs benchNeeds) lease.Licence {
	// Cycles that were cut off leave seats behind until they expire.
	const spare = 1000
	day := lease.Calendar(24 * time.Hour / time.Millisecond)
	l := lease.Licence{ID: id, Vendor: vendor, Tenant: tenant, Issued: (lease.CalendarOf(time.Now()) - day) / day * day}
	grant := func(feature string, seats int, p lease.Profile) {
		l.Entitlements = append(l.Entitlements, lease.Entitlement{Feature: feature, Version: "1.0", Count: min(seats, lease.MaxCount),
			Serial: fmt.Sprintf("%s-%d", id, len(l.Entitlements)+1), Profile: p})
	}
	grant(t.Feature, needs.seats+spare, lease.DefaultProfile)
	if m := needs.million; m != nil {
		// What is filled must stay for as long as the benchmark may take.
		for i := range m.PerSession {
			grant(bench.BatchFeature(i), m.Leases/m.PerSession+spare, lease.Profile{Lifespan: 12 * time.Hour, Grace: time.Hour})
		}
		for i := range bench.MaxPerSession {
			grant(bench.BurstFeature(i), m.Expiring/bench.MaxPerSession+spare, lease.Profile{Lifespan: m.Lifespan, Grace: m.Grace})
		}
	}
	return l
}

// benchNodes are the servers of a dev cluster by their API addresses.
type benchNodes struct{ d *devCluster }

func (b benchNodes) find(address string) (*devNode, error) {
	i := slices.IndexFunc(b.d.nodes, func(n *devNode) bool { return n.API == address })
	if i < 0 {
		return nil, errors.New(address + " is none of the servers started here")
	}
	return b.d.nodes[i], nil
}

func (b benchNodes) Kill(address string) error {
	n, err := b.find(address)
	if err == nil {
		n.kill()
	}
	return err
}

func (b benchNodes) Start(address string) error {
	n, err := b.find(address)
	if err != nil {
		return err
	}
	return n.start()
}
