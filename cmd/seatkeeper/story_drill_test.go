//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// drillProfile outlives the minute in which the drill's cluster is gone.
var drillProfile = lease.Profile{Lifespan: 6 * time.Second, Grace: 2 * time.Minute}

// drillHolders hold a seat all the time.
const drillHolders = 4

// drill is a cluster with TLS and tokens whose operator works through the runbook.
type drill struct {
	*secureStory
	admin map[string]string // the settings of the operator
}

// The pages of the runbook, one after the other, on one cluster under clients: a node is
// lost and replaced, certificates and the gossip key are rotated, a backup is taken,
// everything is destroyed and restored, and the nodes are upgraded one by one to a build
// that knows a command more. Who holds a seat holds the same one at the end, no seat has two
// holders, and no client hears anything but that no seat is free, or when to come back.
func TestRunbookDrill(t *testing.T) {
	if os.Getenv("SEATKEEPER_DRILL") == "" {
		t.Skip("takes a minute and a second build: make drill")
	}
	next := nextBuild(t)
	if machines != "" {
		next = nextPackage(t, next)
	}
	d := startDrill(t)
	d.applyLicence(d.admin, unshared("crowd", crowdSeats, drillProfile))

	held := &crowd{t: t, stop: make(chan struct{}), holder: map[int]string{}, held: map[string]*client.Lease{}}
	var holders, passers sync.WaitGroup
	stopHolders := sync.OnceFunc(func() { close(held.stop); holders.Wait() })
	defer stopHolders()
	for i := range drillHolders {
		d.work(&holders, held, fmt.Sprintf("holder%d", i), held.hold)
	}
	d.renews(held)
	passing := &crowd{t: t, stop: make(chan struct{}), holder: held.holder, held: map[string]*client.Lease{}}
	stopPassers := sync.OnceFunc(func() { close(passing.stop); passers.Wait() })
	defer stopPassers()
	for i := range 4 { // they share the seat plan with those who stay
		d.work(&passers, passing, fmt.Sprintf("passer%d", i), func(user string, s *client.Session) { passing.guest(held, user, s) })
	}
	passing.waitActs(t, 50)

	d.loseAndReplace()
	passing.waitActs(t, 50)
	d.rotateCertificates()
	d.rotateGossipKey()
	passing.waitActs(t, 50)

	// What passers do after the backup nobody would know of afterwards.
	stopPassers()
	backup := filepath.Join(t.TempDir(), "cluster.snap")
	d.cli(exitOK, d.admin, "snapshot", "save", backup)
	d.destroyAndRestore(backup)
	d.renews(held)
	if code, _, stderr := run(t, d.admin, "checkout", "crowd", "--user", "early"); code != exitNoSeat || !strings.Contains(stderr, "restored from a backup") {
		t.Errorf("a checkout behind the fence: %d %s", code, stderr)
	}

	for _, n := range slices.Clone(d.nodes) {
		d.upgrade(n, next)
		d.renews(held)
	}
	eventually(t, "the log version to rise", func() error {
		if st, err := d.status(); err != nil || st.LogVersion != 2 {
			return fmt.Errorf("%d, %v", st.GetLogVersion(), err)
		}
		return nil
	})
	d.renews(held)
	stopHolders()
	for user, l := range held.held {
		if !l.Valid() {
			t.Errorf("%s lost its seat: %s", user, l.Reason())
		}
	}
	if st, err := d.status(); err != nil || int(inUse(st, "crowd")) != len(held.held) || len(held.held) != drillHolders {
		t.Errorf("%d seats in use, %d held, %v", inUse(st, "crowd"), len(held.held), err)
	}
	t.Logf("%d checkouts and check-ins of those who came and went", passing.acts.Load())
}

// startDrill starts the cluster; SEATKEEPER_DRILL_BINARY is what stands for the program of
// its nodes, for one that was installed from a package.
func startDrill(t *testing.T) *drill {
	t.Helper()
	s := startSecureOf(t, os.Getenv("SEATKEEPER_DRILL_BINARY"), func(c *Config) { c.ACL.Required = true })
	d := &drill{secureStory: s}
	d.bootstrap()
	return d
}

// bootstrap makes the first admin token of a cluster that has none.
func (d *drill) bootstrap() {
	d.t.Helper()
	eventually(d.t, "a leader that asks for tokens", func() error {
		if code, _, stderr := run(d.t, d.settings("ann", ""), "leases"); code != exitNotAllowed || !strings.Contains(stderr, "acl bootstrap") {
			return fmt.Errorf("%d %s", code, stderr)
		}
		return nil
	})
	token, _ := d.cli(exitOK, d.settings("ann", ""), "acl", "bootstrap")
	d.admin = d.settings("ann", strings.TrimSpace(token))
	d.ready(d.admin)
}

// status is what the leader says.
func (d *drill) status() (*pb.StatusResponse, error) {
	code, out, stderr := run(d.t, d.admin, "status", "-o", "json")
	if code != exitOK {
		return nil, errors.New(stderr)
	}
	st := &pb.StatusResponse{}
	mustJSON(d.t, out, st)
	return st, nil
}

// renews waits until the cluster has heard from everybody who holds a seat, and wants it to
// list the leases that they believe in.
func (d *drill) renews(c *crowd) {
	d.t.Helper()
	eventually(d.t, "heartbeats of all who hold a seat", func() error {
		code, out, stderr := run(d.t, d.admin, "leases", "-o", "json")
		if code != exitOK {
			return errors.New(stderr)
		}
		var list pb.LeasesResponse
		mustJSON(d.t, out, &list)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.held) != drillHolders {
			return fmt.Errorf("%d hold seats", len(c.held))
		}
		for user, l := range c.held {
			at := slices.IndexFunc(list.Leases, func(x *pb.LeaseEntry) bool { return x.User == user })
			if at < 0 || list.Leases[at].State != lease.Active.String() {
				return fmt.Errorf("%s is not active: %v", user, list.Leases)
			}
			if x := list.Leases[at]; x.Id != uint64(l.Ref().ID) || x.FencingToken != uint64(l.Ref().Token) || !l.Valid() {
				return fmt.Errorf("%s believes in %v: %v", user, l.Ref(), x)
			}
		}
		return nil
	})
}

// work runs a client with a token of its own.
func (d *drill) work(wg *sync.WaitGroup, c *crowd, user string, act func(string, *client.Session)) {
	d.t.Helper()
	token, _ := d.cli(exitOK, d.admin, "token", "create", "--role", "client", "--description", user)
	env := d.settings("ann", strings.TrimSpace(token))
	cl, err := newClient(Client{Addr: env["SEATKEEPER_ADDR"], CACert: env["SEATKEEPER_CACERT"],
		ClientCert: env["SEATKEEPER_CLIENT_CERT"], ClientKey: env["SEATKEEPER_CLIENT_KEY"], Token: env["SEATKEEPER_TOKEN"]}, patience)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = cl.Close(ended)
	})
	session, err := cl.OpenSession(d.t.Context(), client.SessionConfig{Principal: lease.Principal{User: user, Host: user + "-ws"}})
	if err != nil {
		d.t.Fatal(err)
	}
	wg.Go(func() { act(user, session) })
}

// guest comes and goes like others, under the seat plan and the lock of those who stay; in
// the end it has nothing.
func (c *crowd) guest(host *crowd, user string, s *client.Session) {
	c.each(func() {
		l := host.take(user, s, 1)
		if l == nil {
			return
		}
		host.leave(user, l)
		if !host.failed(user, "checkin", l.CheckIn(c.t.Context())) {
			c.acts.Add(1)
		}
	})
}

// configOf reads the config of a node, and writes it back changed.
func (d *drill) changeConfig(n, from *devNode, change func(*Config)) {
	d.t.Helper()
	l, err := loadConfig(from.Config, noEnv, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	change(&l.Config)
	text, err := yaml.Marshal(l.Config)
	if err == nil {
		err = os.WriteFile(n.Config, text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// loseAndReplace is the page "Replace a node".
func (d *drill) loseAndReplace() {
	d.t.Helper()
	leader := d.ready(d.admin)
	lost := d.nodes[0]
	if lost == leader {
		lost = d.nodes[1]
	}
	lost.kill()
	address := func(p int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p)) }
	p := takePorts(d.t)
	fresh := &devNode{Name: "node-4", API: address(p), Raft: address(p + 1), Gossip: address(p + 2),
		Dir: filepath.Join(d.dir, "node-4"), Config: filepath.Join(d.dir, "node-4.yaml"), binary: lost.binary}
	d.mint("tls", "cert", "create", fresh.Name)
	d.changeConfig(fresh, lost, func(c *Config) {
		c.Name, c.DataDir, c.API.Bind, c.Raft.Bind, c.Gossip.Bind = fresh.Name, fresh.Dir, fresh.API, fresh.Raft, fresh.Gossip
		c.TLS.Cert, c.TLS.Key = filepath.Join(d.pki, fresh.Name+".pem"), filepath.Join(d.pki, fresh.Name+"-key.pem")
	})
	if err := fresh.start(); err != nil {
		d.t.Fatal(err)
	}
	d.nodes = append(d.nodes, fresh)
	eventually(d.t, "the new node votes in place of the lost one", func() error {
		if code, _, stderr := run(d.t, d.admin, "operator", "raft", "replace-peer", lost.Name, fresh.Name); code != exitOK {
			return errors.New(stderr)
		}
		return nil
	})
	d.nodes = without(d.nodes, lost)
	for _, n := range d.nodes { // who starts again finds those who are there
		d.changeConfig(n, n, func(c *Config) {
			c.Join = nil
			for _, other := range without(d.nodes, n) {
				c.Join = append(c.Join, other.Gossip)
			}
		})
	}
	d.admin = d.settings("ann", d.admin["SEATKEEPER_TOKEN"])
	d.ready(d.admin)
}

// rotateCertificates gives every node a new one.
func (d *drill) rotateCertificates() {
	d.t.Helper()
	for _, n := range d.nodes {
		before := d.shownBy(n)
		d.replace(n)
		d.own(n)
		n.signal(syscall.SIGHUP)
		eventually(d.t, n.Name+" to show its new certificate", func() error {
			if now := d.shownBy(n); now == before {
				return errors.New("it still shows " + now)
			}
			return nil
		})
	}
}

// rotateGossipKey adds a key, makes it the first, and takes the old one out.
func (d *drill) rotateGossipKey() {
	d.t.Helper()
	l, err := loadConfig(d.nodes[0].Config, noEnv, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	old := l.Gossip.Key
	fresh, err := newGossipKey()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, keys := range [][]string{{old, fresh}, {fresh, old}, {fresh}} {
		for _, n := range d.nodes {
			d.changeConfig(n, n, func(c *Config) { c.Gossip.Key, c.Gossip.Keys = "", keys })
			heard := strings.Count(d.logOf(n), "config reloaded")
			n.signal(syscall.SIGHUP)
			eventually(d.t, n.Name+" to take up the keys", func() error {
				if strings.Count(d.logOf(n), "config reloaded") == heard {
					return errors.New("its log does not say so")
				}
				return nil
			})
		}
	}
	eventually(d.t, "gossip to find all with the new key alone", func() error {
		code, out, stderr := run(d.t, d.admin, "operator", "autopilot", "state", "-o", "json")
		var state pb.AutopilotStateResponse
		if code != exitOK {
			return errors.New(stderr)
		}
		if mustJSON(d.t, out, &state); !state.Healthy || state.FailureTolerance != 1 {
			return fmt.Errorf("%v", &state)
		}
		return nil
	})
}

func (d *drill) logOf(n *devNode) string {
	d.t.Helper()
	text, err := os.ReadFile(n.logPath())
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// destroyAndRestore loses every node with its disk, and brings a new cluster to where the
// backup was.
func (d *drill) destroyAndRestore(backup string) {
	d.t.Helper()
	for _, n := range d.nodes {
		n.kill()
	}
	for _, n := range d.nodes {
		if err := os.RemoveAll(n.Dir); err != nil {
			d.t.Fatal(err)
		}
	}
	for _, n := range d.nodes {
		if err := n.start(); err != nil {
			d.t.Fatal(err)
		}
	}
	d.bootstrap()
	d.cli(exitOK, d.admin, "snapshot", "restore", "--yes", "--force-cluster-id", backup)
}

// upgrade puts the next build in the place of a node's.
func (d *drill) upgrade(n *devNode, next string) {
	d.t.Helper()
	d.install(n, next)
	n.signal(terminateSignal)
	<-n.exited
	if code := n.cmd.ProcessState.ExitCode(); code != exitOK {
		d.t.Errorf("%s stops with %d: %s", n.Name, code, n.lastLog())
	}
	if err := n.start(); err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, n.Name+" is back with the next build", func() error {
		code, out, stderr := run(d.t, d.admin, "operator", "upgrade", "-o", "json")
		if code != exitOK {
			return errors.New(stderr)
		}
		if !json.Valid([]byte(out)) {
			return errors.New(out)
		}
		st, err := d.status()
		if err != nil {
			return err
		}
		for _, x := range st.Nodes {
			if strings.HasPrefix(x.Id, n.Name+"-") && x.Version == "next" && x.AppliedIndex+100 > st.RaftIndex {
				return nil
			}
		}
		return fmt.Errorf("%v", st.Nodes)
	})
	d.ready(d.admin)
}
