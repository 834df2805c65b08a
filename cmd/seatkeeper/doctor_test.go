package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc/codes"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func writeYAML(t *testing.T, file string, v any) {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDoctorFindsNothingWrongWithAHealthyCluster(t *testing.T) {
	t.Parallel()
	w := newDoctorWorld(t)
	code, r := w.examine(nil)
	if code != 0 || r.Failed != 0 || r.Warnings != 0 || r.Reached != 3 {
		t.Errorf("exit code %d\n%s", code, r)
	}
	for _, want := range []string{"node-1-00000001 leads; all 3 voters answer", "node-2 reaches node-3: API, gossip (TCP), gossip (UDP), Raft", "node-3 follows, 0 entries behind"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q is missing in\n%s", want, r)
		}
	}
}

// plantedFault is one thing that is wrong, and what doctor must say of it.
type plantedFault struct {
	name         string
	plant        func(w *doctorWorld)
	level, check string
	what, do     string
	code         int
	first        bool // before everything else
}

var plantedFaults = []plantedFault{
	// The way there, on real sockets.
	{name: "closed port", plant: func(w *doctorWorld) { w.nodes[2].closed = true },
		level: levelFail, check: "api", what: "connection refused", do: "seatkeeper doctor --config FILE", code: 1},
	{name: "name that does not resolve", plant: func(w *doctorWorld) { w.env["SEATKEEPER_ADDR"] = "no-such-host.invalid," + w.nodes[0].address },
		level: levelFail, check: "name", what: "the name no-such-host.invalid does not resolve here", do: "DNS or /etc/hosts", code: 1},
	{name: "a node that takes connections and never answers", plant: func(w *doctorWorld) { w.nodes[1].silent = true },
		level: levelFail, check: "api", what: "does not answer", do: "restart", code: 1},
	{name: "somebody else's port", plant: func(w *doctorWorld) { w.nodes[1].foreign = true },
		level: levelFail, check: "api", what: "no Seatkeeper node", do: "7800", code: 1},
	{name: "nobody at all", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.closed = true
		}
	}, level: levelFail, check: "api", what: "nothing listens", do: "systemctl status", code: exitUnreachable},
	{name: "an address that is none", plant: func(w *doctorWorld) { w.env["SEATKEEPER_ADDR"] = "ftp://x," + w.nodes[0].address },
		level: levelFail, check: "address", what: "ftp://x", do: "host:port", code: 1},
	{name: "API out of reach, Raft not", plant: func(w *doctorWorld) { w.nodes[2].closed = true },
		level: levelFail, check: "api", what: "its Raft port answers the other nodes", do: "api.bind", code: 1},

	// TLS, with real certificates.
	{name: "wrong DNS name", plant: func(w *doctorWorld) { w.secure(w.namedOnly("other.example.com")) },
		level: levelFail, check: "tls/name", what: "is not for 127.0.0.1: it names other.example.com", do: "--host 127.0.0.1", code: 1},
	{name: "expired certificate", plant: func(w *doctorWorld) {
		pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "late"}, time.Hour, time.Now().Add(-48*time.Hour))
		w.secure(pair)
	}, level: levelFail, check: "tls/dates", what: "expired on", do: "tls cert create", code: 1},
	{name: "certificate that is about to expire", plant: func(w *doctorWorld) {
		pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "soon"}, 240*time.Hour+time.Minute, time.Now())
		w.secure(pair)
	}, level: levelWarn, check: "tls/dates", what: "expires in 10 days", do: "tls cert create"},
	{name: "certificate of tomorrow", plant: func(w *doctorWorld) {
		pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "early"}, 9000*time.Hour, time.Now().Add(48*time.Hour))
		w.secure(pair)
	}, level: levelFail, check: "tls/dates", what: "not valid before", do: "clock of this machine"},
	{name: "certificate of another CA", plant: func(w *doctorWorld) {
		_, ca, key := newDoctorCA(w.t, w.dir, "other")
		pair, _, _ := w.cert(ca, key, certKind{name: "stranger"}, 9000*time.Hour, time.Now())
		w.secure(pair)
	}, level: levelFail, check: "tls/chain", what: `signed by "Test other"`, do: "SEATKEEPER_CACERT", code: 1},
	{name: "plain text to a TLS port", plant: func(w *doctorWorld) {
		pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "good"}, 9000*time.Hour, time.Now())
		w.secure(pair)
		delete(w.env, "SEATKEEPER_CACERT")
		w.env["SEATKEEPER_ADDR"] = w.nodes[0].address
	}, level: levelFail, check: "tls", what: "speaks TLS, and was asked in plain text", do: "write https://", code: exitUnreachable},
	{name: "TLS to a plain port", plant: func(w *doctorWorld) { w.env["SEATKEEPER_ADDR"] = "https://" + w.nodes[0].address },
		level: levelFail, check: "tls", what: "speaks plain text", do: "without https://", code: exitUnreachable},
	{name: "client certificate missing", plant: func(w *doctorWorld) {
		pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "good"}, 9000*time.Hour, time.Now())
		w.secure(pair)
		roots := x509.NewCertPool()
		roots.AddCert(w.ca)
		for _, n := range w.nodes {
			n.tls.ClientAuth, n.tls.ClientCAs = tls.RequireAndVerifyClientCert, roots
		}
	}, level: levelFail, check: "tls/client", what: "asks for a client certificate", do: "SEATKEEPER_CLIENT_CERT", code: exitUnreachable},

	{name: "no handshake", plant: func(w *doctorWorld) {
		w.secure(tls.Certificate{})
		for _, n := range w.nodes {
			n.tls = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}
		}
	}, level: levelFail, check: "tls", what: "no TLS handshake with", do: "doctor --config FILE", code: exitUnreachable},
	{name: "CA file that is not there", plant: func(w *doctorWorld) {
		pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "good"}, 9000*time.Hour, time.Now())
		w.secure(pair)
		w.env["SEATKEEPER_CACERT"] = filepath.Join(w.dir, "nosuch.pem")
	}, level: levelFail, check: "tls/client", what: "nosuch.pem", do: "SEATKEEPER_CACERT", code: exitUnreachable},

	// Who may ask.
	{name: "token missing", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.refuse = problemError(codes.Unauthenticated, "unauthenticated", "this cluster wants a token")
		}
	}, level: levelFail, check: "token", what: "wants a token", do: "SEATKEEPER_TOKEN", code: 1},
	{name: "token of a role that is not enough", plant: func(w *doctorWorld) {
		w.nodes[0].refuse = problemError(codes.PermissionDenied, "forbidden", "a token with the role viewer may not do this")
	}, level: levelFail, check: "token", what: "role viewer", do: "--role operator", code: 1},

	// The cluster.
	{name: "no quorum", plant: func(w *doctorWorld) {
		w.nodes[1].closed, w.nodes[2].closed, w.leaderless = true, true, true
		w.nodes[0].who.RaftState.State, w.nodes[0].who.RaftState.Leader = "candidate", ""
		for _, p := range w.nodes[0].who.Probes {
			p.Error = "connection refused"
		}
	}, level: levelFail, check: "quorum", what: "no leader: 1 of 3 voters answer and 2 are needed", do: "start the missing nodes", code: 1},
	{name: "a node that is down", plant: func(w *doctorWorld) {
		w.nodes[2].closed = true
		for _, from := range []int{0, 1} {
			for port := range portNames {
				w.probe(from, 2, port).Error = "connection refused"
			}
		}
	}, level: levelFail, check: "reach", what: "node-3-00000003 is reached by nobody, on no port", do: "Start it", code: 1},
	{name: "a voter that does not answer here", plant: func(w *doctorWorld) { w.nodes[2].closed = true },
		level: levelWarn, check: "quorum", what: "leads; of 3 voters node-3-00000003 do not answer here", do: "the cluster works with 2 of 3", code: 1},
	{name: "one direction blocked", plant: func(w *doctorWorld) { w.probe(1, 0, "raft").Error = "i/o timeout" },
		level: levelFail, check: "reach/raft", what: "node-2 does not reach node-1 at Raft", do: "one direction is blocked: allow connections from node-2", code: 1},
	{name: "gossip by UDP blocked", plant: func(w *doctorWorld) { w.probe(1, 0, "gossip_udp").Error = "no answer by UDP" },
		level: levelFail, check: "reach/gossip_udp", what: "node-2 does not reach node-1", do: "UDP as well as TCP", code: 1},
	{name: "lagging follower", plant: func(w *doctorWorld) { w.nodes[0].who.RaftState.CommitIndex = 100 + lagWarn + 1 },
		level: levelWarn, check: "lag", what: "node-2 is 5001 entries behind", do: "disk and the network"},
	{name: "follower that is a snapshot behind", plant: func(w *doctorWorld) { w.nodes[0].who.RaftState.CommitIndex = 100 + lagFail + 1 },
		level: levelFail, check: "lag", what: "entries behind", do: "restart", code: 1},
	{name: "follower that does not hear the leader", plant: func(w *doctorWorld) { w.nodes[2].who.RaftState.LastContactMs = 9000 },
		level: levelWarn, check: "lag", what: "node-3 has not heard of the leader for 9s", do: "Raft port"},
	{name: "wrong cluster at an address", plant: func(w *doctorWorld) { w.nodes[2].who.ClusterId = "c9" },
		level: levelFail, check: "cluster", what: "answers cluster c9, the others are of c1", do: "--addr", code: 1},
	{name: "another node at a node's API address", plant: func(w *doctorWorld) { w.probe(0, 1, "api").AnsweredId = "node-7-00000007" },
		level: levelFail, check: "cluster", what: "finds node-7-00000007", do: "api.advertise", code: 1},
	{name: "a node that has joined nothing", plant: func(w *doctorWorld) {
		w.nodes[2].who.RaftState.Members, w.nodes[2].who.ClusterId, w.nodes[2].who.GossipMembers = nil, "", []string{"node-3-00000003"}
	}, level: levelFail, check: "quorum", what: "node-3 belongs to no cluster yet", do: "gossip.key", code: 1},
	{name: "wrong gossip key", plant: func(w *doctorWorld) { w.nodes[2].who.GossipKeyId = "ffff" },
		level: levelFail, check: "gossip/key", what: "aa11 on node-1, node-2; ffff on node-3", do: "same gossip.key", code: 1},
	{name: "old version that cannot be examined", plant: func(w *doctorWorld) { w.nodes[2].old = true },
		level: levelWarn, check: "version", what: "cannot be examined", do: "upgrade"},
	{name: "versions that differ", plant: func(w *doctorWorld) { w.nodes[2].who.Version = "v0" },
		level: levelWarn, check: "version", what: "v0 on node-3; v1 on node-1, node-2", do: "finish the upgrade"},
	{name: "node of an older build", plant: func(w *doctorWorld) {
		for i, n := range w.nodes {
			n.who.LogVersion, n.who.LogVersionUnderstood = 3, uint32(4-i/2)
		}
	}, level: levelWarn, check: "version/log", what: "node-3 understands log version 3 and others 4: the cluster stays at 3", do: "operator upgrade"},
	{name: "log version held down by a node that is off", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.who.LogVersion, n.who.LogVersionUnderstood = 3, 4
		}
		w.nodes[2].closed = true
	}, level: levelWarn, check: "version/log", what: "the log stays at version 3 and all that answer understand 4: it waits for node-3", do: "start it", code: 1},
	{name: "token that ends soon", plant: func(w *doctorWorld) { w.tokenEnds(100 * time.Hour) },
		level: levelWarn, check: "token/dates", what: "the token ab12 of the role client ends in 4 days", do: "token create --role client"},
	{name: "token that has ended", plant: func(w *doctorWorld) { w.tokenEnds(-time.Hour) },
		level: levelWarn, check: "token/dates", what: "the token ab12 of the role client ended on", do: "token revoke ab12"},
	{name: "one voter among three", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.who.RaftState.Members[1].Voter, n.who.RaftState.Members[2].Voter = false, false
		}
	}, level: levelWarn, check: "quorum", what: "one of 3 members votes", do: "autopilot state"},
	{name: "even number of voters", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.who.RaftState.Members[2].Voter = false
		}
	}, level: levelWarn, check: "quorum", what: "2 voters survive no more losses than 1", do: "three or five"},

	{name: "join address at which nobody is", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.who.Probes = append(n.who.Probes, &pb.PeerProbe{Address: "10.0.0.9:7802", Port: "gossip_tcp", Error: "no route to host"})
		}
	}, level: levelWarn, check: "reach/join", what: "nobody answers at 10.0.0.9:7802", do: "out of join"},

	// Machines.
	{name: "clock off by a minute and more", plant: func(w *doctorWorld) { w.nodes[1].ahead = 3 * time.Minute },
		level: levelFail, check: "clock", what: "node-2 is 3m0", do: "chronyc", code: 1},
	{name: "clock off by seconds", plant: func(w *doctorWorld) { w.nodes[1].ahead = -20 * time.Second },
		level: levelWarn, check: "clock", what: "behind", do: "chronyc"},
	{name: "our own clock off", plant: func(w *doctorWorld) {
		for _, n := range w.nodes {
			n.ahead = time.Hour
		}
	}, level: levelWarn, check: "clock", what: "the clock of this machine is 1h0m0", do: "chronyc"},
	{name: "clock that runs fast", plant: func(w *doctorWorld) { w.nodes[1].fast = 1.4 },
		level: levelFail, check: "clock/rate", what: "as fast on node-2", do: "transfer-leader", code: 1},
	{name: "slow disk", plant: func(w *doctorWorld) { w.nodes[0].who.Disk.FsyncMedianUs = 60_000 },
		level: levelWarn, check: "disk/sync", what: "node-1: a synced write takes 60ms", do: "SSD"},
	{name: "disk too slow to lead", plant: func(w *doctorWorld) { w.nodes[0].who.Disk.FsyncMedianUs = 600_000 },
		level: levelFail, check: "disk/sync", what: "lose their leadership", do: "SSD", code: 1},
	{name: "full disk", plant: func(w *doctorWorld) { w.nodes[1].who.Disk.FreeBytes = 3 << 30 },
		level: levelFail, check: "disk/space", what: "3.0 GiB free of 100.0 GiB (3 %)", do: "free space", code: 1},
	{name: "disk that fills up", plant: func(w *doctorWorld) { w.nodes[1].who.Disk.FreeBytes = 15 << 30 },
		level: levelWarn, check: "disk/space", what: "15.0 GiB free of 100.0 GiB (15 %)", do: "free space"},
	{name: "disk that hangs", plant: func(w *doctorWorld) { w.nodes[1].who.Disk.Error = "the disk has not answered for 3s: is it hung?" },
		level: levelFail, check: "disk", what: "is it hung", do: "dmesg", code: 1},
	{name: "too few open files", plant: func(w *doctorWorld) { w.nodes[1].who.Limits.OpenFiles = 1024 },
		level: levelWarn, check: "limits", what: "node-2 may open 1024 files", do: "LimitNOFILE"},
	{name: "alarm", plant: func(w *doctorWorld) { w.nodes[1].who.Alarms = []string{"the calendar jumped"} },
		level: levelWarn, check: "alarm", what: "the calendar jumped", do: "runbook"},
	{name: "history with a gap", plant: func(w *doctorWorld) { w.nodes[1].who.HistoryTrouble = "it has a gap" },
		level: levelWarn, check: "history", what: "on node-2 is not whole", do: "another node"},
	{name: "gossip that hears nothing", plant: func(w *doctorWorld) { w.nodes[1].who.RaftState.Members[2].Health = "failed" },
		level: levelWarn, check: "gossip", what: "node-2 hears nothing of node-3", do: "gossip port"},

	// Licences.
	{name: "expired licence", plant: func(w *doctorWorld) {
		w.licences[0].Features[0].State, w.licences[0].Features[0].Expiry = "expired", "2020-01-02T00:00:00Z"
	}, level: levelFail, check: "licence", what: "cad 1 of licence lic has expired (2020-01-02)", do: "--replace", code: 1},
	{name: "licence about to expire", plant: func(w *doctorWorld) {
		w.licences[0].Features[0].Expiry = time.Now().Add(100 * time.Hour).Format(time.RFC3339)
	}, level: levelWarn, check: "licence", what: "expires in 4 days", do: "--replace"},
	{name: "licence in its days of grace", plant: func(w *doctorWorld) {
		w.licences[0].Features[0].State, w.licences[0].Features[0].GraceDays = "grace", 7
	}, level: levelWarn, check: "licence", what: "7 days of grace", do: "--replace"},
	{name: "licence that has not begun", plant: func(w *doctorWorld) {
		w.licences[0].Features[0].State, w.licences[0].Features[0].Start = "not_started", "2090-01-02T00:00:00Z"
	}, level: levelWarn, check: "licence", what: "does not start before 2090-01-02", do: "wait"},
	{name: "installed licence of another cluster", plant: func(w *doctorWorld) { w.licences[0].Cluster = "c7" },
		level: levelFail, check: "licence", what: "bound to cluster c7, this is c1", do: "names this cluster", code: 1},
	{name: "licence file of another cluster", plant: func(w *doctorWorld) { w.args = []string{signedLicence(w, "cluster: any", "cluster: c7")} },
		level: levelFail, check: "licence/file", what: "bound to cluster c7, this is c1", do: "names this cluster", code: 1},
	{name: "licence file that was edited", plant: func(w *doctorWorld) {
		file := signedLicence(w, "", "")
		data, _ := os.ReadFile(file)
		if err := os.WriteFile(file, []byte("x"+string(data[:len(data)/2])), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.args = []string{file}
	}, level: levelFail, check: "licence/file", what: "floating.lic", do: "must not be edited", code: 1},
	{name: "licence file that is not there", plant: func(w *doctorWorld) { w.args = []string{filepath.Join(w.dir, "nosuch.lic")} },
		level: levelFail, check: "licence/file", what: "nosuch.lic", do: "may read", code: 1},
	{name: "licence file of a time that is over", plant: func(w *doctorWorld) { w.args = []string{signedLicence(w, "expiry: never", "expiry: 2020-01-02")} },
		level: levelFail, check: "licence/file", what: "floating.lic", do: "ask the vendor for a new one", code: 1},
	{name: "licence file of a vendor that nobody trusts", plant: func(w *doctorWorld) {
		_, verifier, err := license.GenerateKey("other")
		if err != nil {
			w.t.Fatal(err)
		}
		w.args = []string{"--config", w.config(func(c *Config) { c.TrustedKeys = []string{verifier} }), signedLicence(w, "", "")}
	}, level: levelFail, check: "licence/file", what: "signed by acme", do: "trusted_keys", code: 1},
	{name: "licences that nobody can tell of", plant: func(w *doctorWorld) { w.leaderless = true },
		level: levelWarn, check: "licence", what: "the licences cannot be read", do: "a leader first"},
	{name: "no licence", plant: func(w *doctorWorld) { w.licences = nil },
		level: levelWarn, check: "licence", what: "has no licence", do: "license apply"},
	{name: "all seats taken", plant: func(w *doctorWorld) { w.pools[0].InUse, w.pools[0].Queued = 5, 2 },
		level: levelWarn, check: "pool", what: "cad 1: all 5 seats are taken (5 in use, 0 reserved, 2 wait)", do: "seatkeeper leases --feature cad"},

	{name: "more seats out than licensed", plant: func(w *doctorWorld) { w.pools[0].InUse, w.pools[0].OverUse = 7, 2 },
		level: levelWarn, check: "pool", what: "cad 1: 2 seats more are in use than are licensed", do: "seatkeeper leases --feature cad"},

	// This host's config and files.
	{name: "bound to loopback only", plant: func(w *doctorWorld) {
		w.nodes[1].closed = true
		w.args = []string{"--config", w.config(func(c *Config) { c.BootstrapExpect, c.Join = 3, []string{"10.9.9.9:7802"} })}
	}, level: levelFail, check: "bind", what: "bound to loopback only: node-1", do: "api.bind: 0.0.0.0:7800", code: 1, first: true},
	{name: "bad config", plant: func(w *doctorWorld) {
		file := filepath.Join(w.dir, "bad.yaml")
		if err := os.WriteFile(file, []byte("name: node-1\nbootstrap_expct: 3\n"), 0o600); err != nil {
			w.t.Fatal(err)
		}
		w.args = []string{"--config", file}
	}, level: levelFail, check: "config", what: `bad.yaml:2:1: unknown key "bootstrap_expct": did you mean "bootstrap_expect"?`, do: "config validate", code: 1},
	{name: "config that a server would not start with", plant: func(w *doctorWorld) { w.args = []string{"--config", w.config(func(c *Config) { c.Name = "No Name" })} },
		level: levelFail, check: "config", what: "is no node name", do: "config validate", code: 1},
	{name: "key file that everybody may read", plant: func(w *doctorWorld) {
		_, cert, key := w.cert(w.ca, w.caKey, certKind{name: "node-1", peer: defaultPeerName}, 9000*time.Hour, time.Now())
		if err := os.Chmod(key, 0o644); err != nil {
			w.t.Fatal(err)
		}
		w.args = []string{"--config", w.config(func(c *Config) { c.TLS.Cert, c.TLS.Key, c.TLS.CA = cert, key, filepath.Join(w.dir, "ca.pem") })}
		w.env["SEATKEEPER_ADDR"] = "https://" + w.nodes[0].address
	}, level: levelFail, check: "tls/mode", what: "mode 0644", do: "chmod 600", code: exitUnreachable},
	{name: "config with a key in it that everybody may read", plant: func(w *doctorWorld) {
		file := w.config(nil)
		if err := os.Chmod(file, 0o644); err != nil {
			w.t.Fatal(err)
		}
		w.args = []string{"--config", file}
	}, level: levelFail, check: "config/mode", what: "the gossip key is in it", do: "chmod 600", code: 1},
	{name: "certificate and key of two pairs", plant: func(w *doctorWorld) {
		_, cert, _ := w.cert(w.ca, w.caKey, certKind{name: "node-1", peer: defaultPeerName}, 9000*time.Hour, time.Now())
		w.args = []string{"--config", w.config(func(c *Config) {
			c.TLS.Cert, c.TLS.Key, c.TLS.CA = cert, filepath.Join(w.dir, "ca-key.pem"), filepath.Join(w.dir, "ca.pem")
		})}
		w.env["SEATKEEPER_ADDR"] = "https://" + w.nodes[0].address
	}, level: levelFail, check: "tls/files", what: "node-1.pem", do: "of one pair", code: exitUnreachable},
	{name: "certificate that another CA signed", plant: func(w *doctorWorld) {
		_, ca, key := newDoctorCA(w.t, w.dir, "other")
		_, cert, certKey := w.cert(ca, key, certKind{name: "node-1", peer: defaultPeerName}, 9000*time.Hour, time.Now())
		w.ownTLS(cert, certKey, filepath.Join(w.dir, "ca.pem"))
	}, level: levelFail, check: "tls/chain", what: "is not signed by the CA in", do: "the same CA", code: exitUnreachable},
	{name: "certificate that does not name the advertised host", plant: func(w *doctorWorld) {
		_, cert, key := w.cert(w.ca, w.caKey, certKind{name: "node-1", peer: defaultPeerName}, 9000*time.Hour, time.Now())
		w.args = []string{"--config", w.config(func(c *Config) {
			c.TLS.Cert, c.TLS.Key, c.TLS.CA, c.API.Advertise = cert, key, filepath.Join(w.dir, "ca.pem"), "seats.invalid:7800"
		})}
		w.env["SEATKEEPER_ADDR"] = "https://" + w.nodes[0].address
	}, level: levelFail, check: "tls/name", what: "is not for seats.invalid, which clients are sent to", do: "--host seats.invalid", code: exitUnreachable},
	{name: "key that is not there", plant: func(w *doctorWorld) {
		_, cert, _ := w.cert(w.ca, w.caKey, certKind{name: "node-1", peer: defaultPeerName}, 9000*time.Hour, time.Now())
		w.ownTLS(cert, filepath.Join(w.dir, "nosuch-key.pem"), filepath.Join(w.dir, "ca.pem"))
	}, level: levelFail, check: "tls/mode", what: "nosuch-key.pem", do: "put the file there", code: exitUnreachable},
	{name: "CA of the cluster that is not there", plant: func(w *doctorWorld) {
		_, cert, key := w.cert(w.ca, w.caKey, certKind{name: "node-1", peer: defaultPeerName}, 9000*time.Hour, time.Now())
		w.ownTLS(cert, key, filepath.Join(w.dir, "nosuch-ca.pem"))
	}, level: levelFail, check: "tls/files", what: "nosuch-ca.pem", do: "put the CA certificate of the cluster there", code: exitUnreachable},
	{name: "config that a group may write", plant: func(w *doctorWorld) {
		file := w.config(nil)
		if err := os.Chmod(file, 0o660); err != nil {
			w.t.Fatal(err)
		}
		w.args = []string{"--config", file}
	}, level: levelWarn, check: "config/mode", what: "may be written by its group (mode 0660)", do: "chmod 600", code: 1},
	{name: "data directory that is not there", plant: func(w *doctorWorld) {
		w.args = []string{"--config", w.config(func(c *Config) { c.Name, c.DataDir = "node-9", filepath.Join(w.dir, "nosuch") })}
	}, level: levelWarn, check: "disk", what: "is not there: the node has never run here, or has lost it", do: "A node is lost", code: 1},
	{name: "a client's certificate for a node", plant: func(w *doctorWorld) {
		_, cert, key := w.cert(w.ca, w.caKey, certKind{name: "ann", client: true}, 9000*time.Hour, time.Now())
		w.args = []string{"--config", w.config(func(c *Config) { c.TLS.Cert, c.TLS.Key, c.TLS.CA = cert, key, filepath.Join(w.dir, "ca.pem") })}
		w.env["SEATKEEPER_ADDR"] = "https://" + w.nodes[0].address
	}, level: levelFail, check: "tls/name", what: "does not name node.seatkeeper", do: "never --client", code: exitUnreachable},
	{name: "join name that does not resolve", plant: func(w *doctorWorld) {
		w.args = []string{"--config", w.config(func(c *Config) { c.BootstrapExpect, c.Join = 3, []string{"no-such-host.invalid:7802"} })}
	}, level: levelFail, check: "name", what: "join: the name no-such-host.invalid", do: "DNS or /etc/hosts", code: 1},
	{name: "advertised address of another host", plant: func(w *doctorWorld) {
		w.args = []string{"--config", w.config(func(c *Config) { c.Raft.Advertise, c.Insecure = "203.0.113.9:7801", true })}
	}, level: levelWarn, check: "name", what: "no address of this host", do: "NAT", code: 1},
	{name: "config whose gossip key is not the nodes'", plant: func(w *doctorWorld) { w.args = []string{"--config", w.config(nil)} },
		level: levelFail, check: "gossip/key", what: "node-1.yaml", do: "same gossip.key", code: 1},
}

// ownTLS gives the config of this host's node these files.
func (w *doctorWorld) ownTLS(cert, key, ca string) {
	w.args = []string{"--config", w.config(func(c *Config) { c.TLS.Cert, c.TLS.Key, c.TLS.CA = cert, key, ca })}
	w.env["SEATKEEPER_ADDR"] = "https://" + w.nodes[0].address
}

// signedLicence writes a licence file, with one line of its text changed.
func signedLicence(w *doctorWorld, from, to string) string {
	w.t.Helper()
	signer, _, err := license.GenerateKey("acme")
	if err != nil {
		w.t.Fatal(err)
	}
	document := string(sampleLicence("L-1", "acme", []sampleFeature{seats("cad", 3, patientProfile)}, time.Now().AddDate(0, 0, -1)))
	document = strings.Replace(document, from, to, 1)
	file, err := license.Sign([]byte(document), signer)
	if err != nil {
		w.t.Fatalf("%v in\n%s", err, document)
	}
	name := filepath.Join(w.dir, "floating.lic")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func TestDoctorFindsPlantedFaultsAndNamesTheRemedy(t *testing.T) {
	t.Parallel()
	for _, f := range plantedFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newDoctorWorld(t)
			code, r := w.examine(f.plant)
			if !r.find(f.level, f.check, f.what, f.do) {
				t.Errorf("no finding %s %s with %q and the remedy %q in\n%s", f.level, f.check, f.what, f.do, r)
			}
			if f.first && (len(r.Findings) == 0 || r.Findings[0].Check != f.check) {
				t.Errorf("it is not said first:\n%s", r)
			}
			want := f.code
			if f.level == levelFail && want == 0 {
				want = 1
			}
			if code != want {
				t.Errorf("exit code %d, want %d\n%s", code, want, r)
			}
			for _, x := range r.Findings {
				if x.Level != levelOK && x.Do == "" {
					t.Errorf("%s says nothing to do: %s", x.Check, x.What)
				}
				if strings.ContainsAny(x.What+x.Do, "\r\n") {
					t.Errorf("%q has more than one line", x.What)
				}
			}
		})
	}
	if len(plantedFaults) < 20 {
		t.Errorf("%d faults are planted", len(plantedFaults))
	}
}

// A node that does not run cannot tell of its disk: its host can.
func TestDoctorLooksAtTheDiskOfANodeThatDoesNotRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tried cluster.DiskTried
		want  string
	}{
		"full":   {cluster.DiskTried{Free: 1 << 20, Total: 100 << 30}, "1 MiB free of 100.0 GiB (0 %)"},
		"slow":   {cluster.DiskTried{Free: 50 << 30, Total: 100 << 30, Syncs: []time.Duration{time.Second, 2 * time.Second}}, "takes 2s"},
		"broken": {cluster.DiskTried{Err: errors.New("input/output error")}, "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			cfg := defaultConfig()
			cfg.Name, cfg.DataDir, cfg.API.Bind = "node-1", t.TempDir(), l.Addr().String()
			d := &doctor{server: &loadedConfig{Config: cfg, file: "node-1.yaml", origin: map[string]string{}}, tryDir: func(_ context.Context, dir string) cluster.DiskTried {
				c.tried.Dir = dir
				return c.tried
			}}
			if r := d.examine(t.Context()); !strings.Contains(r.String(), c.want) || !strings.Contains(r.String(), "nothing listens at") {
				t.Errorf("%q is missing in\n%s", c.want, r)
			}
		})
	}
}

func TestDoctorJudgesARateNoSharperThanItMeasured(t *testing.T) {
	at := time.Now()
	v := &visit{apart: time.Second, first: &clockRead{at: at, half: 200 * time.Millisecond}, second: &clockRead{at: at.Add(2 * time.Second), half: 200 * time.Millisecond, mono: 2300 * time.Millisecond}, who: &pb.ExamineResponse{Name: "n"}}
	d := &doctor{now: time.Now}
	d.judgeClock(v, 0)
	for _, x := range d.list {
		if x.Check == "clock/rate" {
			t.Errorf("an answer that took so long proves nothing: %s", x.What)
		}
	}
}

// A clock that is steered by less than leases allow for is worth a word, and no more.
func TestDoctorTellsOfAClockThatIsSteered(t *testing.T) {
	at := time.Now()
	for off, want := range map[float64]string{0: "", rateWarn / 2: "", 2 * rateWarn: levelWarn, -2 * rateWarn: levelWarn, 2 * rateFail: levelFail} {
		v := &visit{apart: time.Second, who: &pb.ExamineResponse{Name: "n"}, first: &clockRead{at: at, half: time.Microsecond},
			second: &clockRead{at: at.Add(time.Second), half: time.Microsecond, mono: time.Duration((1 + off) * float64(time.Second))}}
		d := &doctor{now: time.Now}
		d.judgeClock(v, 0)
		got := ""
		for _, x := range d.list {
			if x.Check == "clock/rate" {
				got = x.Level
			}
		}
		if got != want {
			t.Errorf("%g off: %q, want %q", off, got, want)
		}
	}
}

// What the runbook quotes of doctor, doctor says: each line is that of a planted fault.
func TestRunbookQuotesWhatDoctorSays(t *testing.T) {
	text, err := os.ReadFile("../../deploy/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^ *(FAIL|WARN)  ([a-z/]+): (.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(lines) < 15 {
		t.Errorf("%d lines are quoted: the pattern misses them", len(lines))
	}
	for _, l := range lines {
		if !slices.ContainsFunc(plantedFaults, func(f plantedFault) bool {
			return strings.EqualFold(f.level, l[1]) && f.check == l[2] && strings.Contains(unnumbered(l[3]), unnumbered(f.what))
		}) {
			t.Errorf("no planted fault makes doctor say %s", l[0])
		}
	}
}

// unnumbered leaves numbers, addresses and names of an example out.
func unnumbered(s string) string {
	return regexp.MustCompile(`[0-9.:-]+`).ReplaceAllString(regexp.MustCompile(`the name \S+`).ReplaceAllString(s, "the name"), "#")
}
