package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// sampleFeature is one line of the sample licence.
type sampleFeature struct {
	name, version string
	count         int
	profile       string
	borrow        string // hours such as 168h; empty: it may not be borrowed
}

// devFeatures are what a dev cluster has to give.
var devFeatures = []sampleFeature{
	{name: "cad", version: "2026.0", count: 10, profile: "default", borrow: "168h"},
	{name: "solver", version: "2026.0", count: 5, profile: "default"},
	{name: "mesh", version: "1.0", count: 2, profile: "default"},
}

// sampleLicence writes the document of a licence that any cluster may use.
func sampleLicence(id, vendor string, features []sampleFeature, issued time.Time) []byte {
	doc := fmt.Sprintf("seatkeeper-license/1\nlicense: %s\nvendor: %s\ntenant: %s\ncluster: any\nissued: %s\n",
		id, vendor, lease.DefaultTenant, issued.UTC().Format(time.DateOnly))
	for i, f := range features {
		doc += fmt.Sprintf("\nfeature: %s\nversion: %s\ncount: %d\nexpiry: never\nserial: %s-%d\nprofile: %s\n",
			f.name, f.version, f.count, id, i+1, f.profile)
		if f.borrow != "" {
			doc += "borrow: " + f.borrow + "\n"
		}
	}
	return []byte(doc)
}

func (a *app) devCommand() *cobra.Command {
	var nodes, port int
	var dir string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine, with a sample licence, for trying things",
		Long: `Starts real server processes on loopback, installs a signed sample licence for tenant
default (cad 10 seats, solver 5, mesh 2) and prints what to export. Ctrl-C stops the
servers; without --data-dir nothing is left behind. Servers that die stay dead, so
that you can see what the others do.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals...)
			defer stop()
			return a.dev(ctx, nodes, port, dir)
		},
	}
	cmd.Flags().IntVar(&nodes, "nodes", 3, "how many servers")
	cmd.Flags().IntVar(&port, "port", apiPort, "API port of the first node; the others follow at +10, Raft at +1, gossip at +2")
	cmd.Flags().StringVar(&dir, "data-dir", "", "keep everything here (default: a temporary folder, removed at the end)")
	return cmd
}

// dev runs a cluster until ctx ends.
func (a *app) dev(ctx context.Context, nodes, port int, dir string) (err error) {
	d, err := startDev(ctx, nodes, port, dir, devFeatures, "--port")
	if d != nil {
		defer func() {
			stopped := d.stop()
			if errors.Is(err, context.Canceled) {
				err = nil // interrupted: that is how dev ends
			}
			err = errors.Join(err, stopped)
		}()
	}
	if err != nil {
		return err
	}
	if err := a.printDevReady(d); err != nil {
		return err
	}
	for _, n := range d.nodes {
		go func() {
			<-n.exited
			if ctx.Err() == nil {
				fmt.Fprintf(a.stderr, "%s (pid %d) has ended; it is not restarted (log: %s)\n", n.Name, n.pid(), n.logPath())
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// startDev starts a cluster and returns once it has a leader, all its nodes and its
// licence. With an error it may return a cluster that must still be stopped.
func startDev(ctx context.Context, nodes, port int, dir string, features []sampleFeature, portRemedy string) (*devCluster, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d, err := newDevCluster(binary, dir, nodes, port)
	if err != nil {
		return nil, err
	}
	if err := d.checkPorts(portRemedy); err != nil {
		return d, err
	}
	if err := d.start(); err != nil {
		return d, err
	}
	if err := d.waitReady(ctx); err != nil {
		return d, err
	}
	return d, d.installLicence(ctx, features)
}

// waitReady waits for a leader and for every node to be a voter.
func (d *devCluster) waitReady(ctx context.Context) error {
	c, err := dialCluster(Client{Addr: d.address()}, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	return waitFor(ctx, "a leader with all nodes", devReadyTimeout, func(ctx context.Context) error {
		if n := d.died(); n != nil {
			return fmt.Errorf("%s has ended: %s", n.Name, n.lastLog())
		}
		s, err := d.statusNow(ctx, c)
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range s.Nodes {
			if n.Role == "leader" || n.Role == "follower" {
				ready++
			}
		}
		if s.Leader == "" || ready < len(d.nodes) {
			return fmt.Errorf("%d of %d nodes are ready", ready, len(d.nodes))
		}
		return nil
	})
}

// statusNow asks once, with a short bound, for use in waitFor.
func (d *devCluster) statusNow(ctx context.Context, c *conn) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.cluster.Status(ctx, &pb.StatusRequest{})
}

// installLicence signs the sample licence and applies it, unless the cluster of an
// earlier run has it.
func (d *devCluster) installLicence(ctx context.Context, features []sampleFeature) error {
	c, err := dialCluster(Client{Addr: d.address()}, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	const id = "sample-1"
	have, err := c.cluster.LicenseList(ctx, &pb.LicenseListRequest{Tenant: lease.DefaultTenant, Id: id})
	if err == nil && len(have.Licenses) > 0 {
		return nil
	}
	key, err := readLimited(d.vendor.SignerFile, maxStateBytes)
	if err != nil {
		return err
	}
	// Valid from yesterday: the clocks of a machine and of its containers may differ.
	signed, err := license.Sign(sampleLicence(id, d.vendor.Name, features, time.Now().AddDate(0, 0, -1)), string(key))
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.vendor.LicenceFile, signed, 0o600); err != nil {
		return err
	}
	_, err = c.cluster.LicenseApply(ctx, &pb.LicenseApplyRequest{File: signed})
	return apiError(err)
}

// devReady is what dev says when the cluster can be used.
type devReady struct {
	Addresses   []string       `json:"addresses"`
	PIDs        []int          `json:"pids"`
	DataDir     string         `json:"data_dir"`
	Temporary   bool           `json:"temporary"`
	Nodes       []devReadyNode `json:"nodes"`
	Tenant      string         `json:"tenant"`
	Vendor      string         `json:"vendor"`
	VerifierKey string         `json:"verifier_key"`
	SignerFile  string         `json:"signer_key_file"`
	LicenceFile string         `json:"license_file"`
}

type devReadyNode struct {
	Name          string `json:"name"`
	PID           int    `json:"pid"`
	Address       string `json:"address"`
	RaftAddress   string `json:"raft_address"`
	GossipAddress string `json:"gossip_address"`
	DataDir       string `json:"data_dir"`
	Config        string `json:"config"`
	Log           string `json:"log"`
}

func (a *app) printDevReady(d *devCluster) error {
	ready := devReady{
		DataDir: d.dir, Temporary: d.temporary, Tenant: lease.DefaultTenant, Vendor: d.vendor.Name,
		VerifierKey: d.vendor.VerifierKey, SignerFile: d.vendor.SignerFile, LicenceFile: d.vendor.LicenceFile,
	}
	for _, n := range d.nodes {
		ready.Addresses = append(ready.Addresses, n.API)
		ready.PIDs = append(ready.PIDs, n.pid())
		ready.Nodes = append(ready.Nodes, devReadyNode{Name: n.Name, PID: n.pid(), Address: n.API, RaftAddress: n.Raft,
			GossipAddress: n.Gossip, DataDir: n.Dir, Config: n.Config, Log: n.logPath()})
	}
	if a.cfg.Client.Format == "json" {
		return json.NewEncoder(a.stdout).Encode(ready) // one line: scripts wait for it
	}
	return a.print(ready, func(t *table) {
		t.row("NODE", "API", "PID", "LOG")
		for _, n := range ready.Nodes {
			t.row(n.Name, n.Address, n.PID, n.Log)
		}
		t.text("")
		t.text("licence of %s for tenant %s: cad 10 seats, solver 5, mesh 2. In another terminal:", ready.Vendor, ready.Tenant)
		t.text("")
		t.text("  export SEATKEEPER_ADDR=%s", d.address())
		t.text("  seatkeeper run cad -- sh -c 'seatkeeper leases'")
		t.text("  curl -L --data '{\"feature\":\"cad\",\"user\":\"ann\",\"host\":\"ws1\"}' http://%s/v1/checkout", d.nodes[0].API)
		t.text("")
		t.text("Ctrl-C stops it.")
	})
}
