package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// doctorNode is a node as doctor meets it: on a real port, with answers that a test may
// make wrong.
type doctorNode struct {
	pb.UnimplementedDiagnosisServer
	pb.UnimplementedClusterServer

	w       *doctorWorld
	who     *pb.ExamineResponse
	ahead   time.Duration // of the calendar
	fast    float64       // of the clock that leases run on; 1 is right
	refuse  error         // instead of an examination
	old     bool          // a version that cannot be examined
	closed  bool          // nothing listens
	silent  bool          // takes connections and never answers
	foreign bool          // a web server of somebody else
	tls     *tls.Config

	address string
	born    time.Time
}

func (n *doctorNode) Examine(context.Context, *pb.ExamineRequest) (*pb.ExamineResponse, error) {
	if n.old {
		return nil, status.Error(codes.Unimplemented, "unknown service seatkeeper.v1.Diagnosis")
	}
	return n.who, n.refuse
}

func (n *doctorNode) Clock(context.Context, *pb.ClockRequest) (*pb.ClockResponse, error) {
	mono := time.Duration(float64(time.Since(n.born)) * n.fast)
	return &pb.ClockResponse{Id: n.who.Id, WallNs: time.Now().Add(n.ahead).UnixNano(), MonoNs: uint64(mono)}, nil
}

func (n *doctorNode) LicenseList(context.Context, *pb.LicenseListRequest) (*pb.LicenseListResponse, error) {
	if n.w.leaderless {
		return nil, problemError(codes.Unavailable, "not_leader", "no node leads")
	}
	return &pb.LicenseListResponse{Licenses: n.w.licences}, nil
}

func (n *doctorNode) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Leader: n.w.nodes[0].who.Id, Pools: n.w.pools}, nil
}

func problemError(code codes.Code, reason, message string) error {
	st, err := status.New(code, message).WithDetails(&pb.Problem{Reason: reason, Message: message, Final: true})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// doctorWorld is a cluster of three that is well, before a test plants a fault.
type doctorWorld struct {
	t          *testing.T
	dir        string
	nodes      []*doctorNode
	licences   []*pb.License
	pools      []*pb.PoolStatus
	leaderless bool
	args       []string
	env        map[string]string
	caPEM      []byte
	ca         *x509.Certificate
	caKey      crypto.Signer
}

func newDoctorWorld(t *testing.T) *doctorWorld {
	w := &doctorWorld{t: t, dir: t.TempDir(), env: map[string]string{},
		licences: []*pb.License{{Id: "lic", Vendor: "acme", Features: []*pb.LicenseFeature{{Feature: "cad", Version: "1", Count: 5, State: "valid"}}}},
		pools:    []*pb.PoolStatus{{Feature: "cad", Version: "1", Total: 5, InUse: 1}}}
	w.caPEM, w.ca, w.caKey = newDoctorCA(t, w.dir, "ca")
	for i := range 3 {
		w.nodes = append(w.nodes, &doctorNode{w: w, fast: 1, born: time.Now(), who: &pb.ExamineResponse{
			Id: fmt.Sprintf("node-%d-0000000%d", i+1, i+1), Name: fmt.Sprintf("node-%d", i+1), Version: "v1", ClusterId: "c1", ClusterName: "seatkeeper",
			RaftState: &pb.RaftState{State: "follower", Term: 3, Leader: "node-1-00000001", CommitIndex: 100, AppliedIndex: 100, Heard: true, LastContactMs: 20},
			Disk:      &pb.DiskProbe{Dir: "/d", FreeBytes: 60 << 30, TotalBytes: 100 << 30, Fsyncs: 8, FsyncMedianUs: 900, FsyncMaxUs: 2000},
			Limits:    &pb.ProcessLimits{OpenFiles: 65536, Connections: 10000}, GossipKeyId: "aa11",
		}})
	}
	w.nodes[0].who.RaftState.State = "leader"
	return w
}

func newDoctorCA(t *testing.T, dir, name string) (caPEM []byte, ca *x509.Certificate, key crypto.Signer) {
	t.Helper()
	caPEM, keyPEM, err := mintCA("Test "+name, 24*365*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	for file, data := range map[string][]byte{certFile: caPEM, keyFile: keyPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ca, key, err = readCA(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return caPEM, ca, key
}

// cert mints a certificate and writes it and its key beside the CA's.
func (w *doctorWorld) cert(ca *x509.Certificate, key crypto.Signer, kind certKind, life time.Duration, born time.Time) (pair tls.Certificate, certFile, keyFile string) {
	w.t.Helper()
	certPEM, keyPEM, err := mintCert(ca, key, kind, life, born)
	if err != nil {
		w.t.Fatal(err)
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		w.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(w.dir, kind.name+".pem"), filepath.Join(w.dir, kind.name+"-key.pem")
	for file, data := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return pair, certFile, keyFile
}

// secure gives every node TLS with this certificate, and the client the CA.
func (w *doctorWorld) secure(pair tls.Certificate) {
	for _, n := range w.nodes {
		n.tls = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	}
	w.env["SEATKEEPER_CACERT"] = filepath.Join(w.dir, "ca.pem")
}

// namedOnly is a certificate of the world's CA for these names and nothing else.
func (w *doctorWorld) namedOnly(names ...string) tls.Certificate {
	t := certTemplate("odd", time.Hour*24*365, time.Now())
	t.DNSNames, t.ExtKeyUsage, t.BasicConstraintsValid = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, true
	pair, _, _ := w.cert(w.ca, w.caKey, certKind{name: "scratch"}, time.Hour, time.Now())
	der, err := x509.CreateCertificate(nil, t, w.ca, pair.PrivateKey.(crypto.Signer).Public(), w.caKey)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: pair.PrivateKey}
}

// listen takes a port for every node, so that they can name each other.
func (w *doctorWorld) listen() []net.Listener {
	var list []net.Listener
	for _, n := range w.nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.t.Fatal(err)
		}
		n.address = l.Addr().String()
		n.who.Api = &pb.NodeEndpoint{Bind: "0.0.0.0:7800", Advertise: n.address}
		list = append(list, l)
	}
	for _, n := range w.nodes {
		for _, m := range w.nodes {
			n.who.RaftState.Members = append(n.who.RaftState.Members, &pb.RaftMember{Id: m.who.Id, Address: "10.0.0.1:7801", Voter: true, ApiAddress: m.address, Health: "alive"})
			if m == n {
				continue
			}
			for port := range portNames {
				n.who.Probes = append(n.who.Probes, &pb.PeerProbe{Id: m.who.Id, Address: m.address, Port: port, ClusterId: "c1", AnsweredId: m.who.Id})
			}
		}
		slices.SortFunc(n.who.Probes, func(a, b *pb.PeerProbe) int { return strings.Compare(a.Id+a.Port, b.Id+b.Port) })
	}
	return list
}

// probe is what node from found at a port of node to, both counted from 0.
func (w *doctorWorld) probe(from, to int, port string) *pb.PeerProbe {
	for _, p := range w.nodes[from].who.Probes {
		if p.Id == w.nodes[to].who.Id && p.Port == port {
			return p
		}
	}
	w.t.Fatal("no such probe")
	return nil
}

// tokenEnds has all nodes tell of a token that ends so long from now.
func (w *doctorWorld) tokenEnds(left time.Duration) {
	for _, n := range w.nodes {
		n.who.TokensEnding = []*pb.TokenEnd{{Id: "ab12", Role: "client", Expires: time.Now().Add(left).Format(time.RFC3339)}}
	}
}

func (w *doctorWorld) serve(l net.Listener, n *doctorNode) {
	switch {
	case n.closed:
		l.Close()
		return
	case n.silent:
		w.t.Cleanup(func() { l.Close() })
		return
	}
	g := grpc.NewServer()
	pb.RegisterDiagnosisServer(g, n)
	pb.RegisterClusterServer(g, n)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: n.tls, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case n.foreign:
			http.Error(rw, "<h1>It works!</h1>", http.StatusOK)
		case r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			g.ServeHTTP(rw, r)
		default:
			_ = json.NewEncoder(rw).Encode(healthSeen{Node: n.who.Id, ClusterID: n.who.ClusterId, Version: n.who.Version})
		}
	})}
	go func() {
		if n.tls != nil {
			_ = s.ServeTLS(l, "", "")
		} else {
			_ = s.Serve(l)
		}
	}()
	w.t.Cleanup(func() { s.Close() })
}

// examine runs doctor on the world as it is and returns its exit code and report.
func (w *doctorWorld) examine(plant func(w *doctorWorld)) (int, *doctorReport) {
	w.t.Helper()
	listeners := w.listen()
	if plant != nil {
		plant(w)
	}
	var addresses []string
	for i, n := range w.nodes {
		w.serve(listeners[i], n)
		if n.tls != nil {
			addresses = append(addresses, "https://"+n.address)
		} else {
			addresses = append(addresses, n.address)
		}
	}
	if w.env["SEATKEEPER_ADDR"] == "" {
		w.env["SEATKEEPER_ADDR"] = strings.Join(addresses, ",")
	}
	start := time.Now()
	code, r := runDoctor(w.t, w.env, w.args...)
	if took := time.Since(start); took > doctorBound {
		w.t.Errorf("it took %s", took)
	}
	return code, r
}

// runDoctor runs the command, which looks at the clocks twice in a shorter time than usual.
func runDoctor(t *testing.T, env map[string]string, args ...string) (int, *doctorReport) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{stdin: bytes.NewReader(nil), stdout: &stdout, stderr: &stderr, clockApart: 200 * time.Millisecond, lookupEnv: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}}
	code := a.main(t.Context(), append([]string{"doctor", "-o", "json"}, args...))
	var r doctorReport
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("exit code %d, no report: %v\n%s%s", code, err, stdout.String(), stderr.String())
	}
	return code, &r
}

// config writes a config of node-1 of this world, changed as a test likes.
func (w *doctorWorld) config(change func(c *Config)) string {
	c := defaultConfig()
	c.Name, c.DataDir = "node-1", w.dir
	c.API = Endpoint{Bind: w.nodes[0].address}
	var err error
	if c.Gossip.Key, err = newGossipKey(); err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	file := filepath.Join(w.dir, "node-1.yaml")
	writeYAML(w.t, file, c)
	return file
}

func (r *doctorReport) find(level, check, what, do string) bool {
	return slices.ContainsFunc(r.Findings, func(x finding) bool {
		return x.Level == level && x.Check == check && strings.Contains(x.What, what) && strings.Contains(x.Do, do)
	})
}

func (r *doctorReport) String() string {
	var b strings.Builder
	for _, x := range r.Findings {
		fmt.Fprintf(&b, "%s %s: %s\n\tdo: %s\n", x.Level, x.Check, x.What, x.Do)
	}
	return b.String()
}
