package rpc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// apiProbeBound bounds trying the API of one other node.
const apiProbeBound = 2 * time.Second

// Diagnosis is what only the program around a node knows of it, for those who look for
// what is wrong. Every field may be left empty.
type Diagnosis struct {
	// APIBind is where the API listens.
	APIBind string
	// Settings are the effective settings, without secrets.
	Settings func() []Setting
	// Certificates are the node's own, first, and those of its CA.
	Certificates func() []*x509.Certificate
	// Log is what Monitor reads.
	Log *LogBook
}

// Setting is one value of a node's config, and where it comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// diagnosed is a node that can be examined: every real one.
type diagnosed interface {
	Facts() cluster.Facts
	RaftStats() map[string]string
	Clocks() (wall time.Time, mono time.Duration)
	Reach(ctx context.Context) []cluster.Reached
	TryDisk(ctx context.Context) cluster.DiskTried
}

// diagnosisService serves Diagnosis. Its answers are of this node, whoever leads.
type diagnosisService struct {
	pb.UnimplementedDiagnosisServer
	s          *Server
	collecting chan struct{} // one slot per part that is being sent
}

func newDiagnosisService(s *Server) *diagnosisService {
	return &diagnosisService{s: s, collecting: make(chan struct{}, maxCollects)}
}

// node is the node as it can be examined; a test's may not be.
func (d *diagnosisService) node() (diagnosed, error) {
	if n, ok := d.s.cfg.Node.(diagnosed); ok {
		return n, nil
	}
	return nil, invalid("this node cannot be examined")
}

func (d *diagnosisService) Clock(context.Context, *pb.ClockRequest) (*pb.ClockResponse, error) {
	n, err := d.node()
	if err != nil {
		return nil, err
	}
	wall, mono := n.Clocks()
	return &pb.ClockResponse{Id: d.s.cfg.Node.ID(), WallNs: wall.UnixNano(), MonoNs: uint64(mono)}, nil
}

func (d *diagnosisService) Examine(ctx context.Context, r *pb.ExamineRequest) (*pb.ExamineResponse, error) {
	n, err := d.node()
	if err != nil {
		return nil, err
	}
	node := d.s.cfg.Node
	var alarms []string
	st := node.ReadStale(func(b *lease.Book) { alarms = b.Alarms() })
	if own, ok := node.(interface{ Alarms() []string }); ok {
		alarms = append(alarms, own.Alarms()...)
	}
	f := n.Facts()
	_, mono := n.Clocks()
	answer := &pb.ExamineResponse{
		Id: node.ID(), Name: node.Name(), Version: d.s.cfg.Version, ClusterId: st.ClusterID, ClusterName: f.ClusterName,
		Api:    &pb.NodeEndpoint{Bind: d.s.cfg.Diagnosis.APIBind},
		Raft:   &pb.NodeEndpoint{Bind: f.RaftBind, Advertise: f.RaftAdvertise},
		Gossip: &pb.NodeEndpoint{Bind: f.GossipBind, Advertise: f.GossipAdvertise},
		RaftState: &pb.RaftState{State: f.State, Term: f.Term, Leader: f.Leader, LastLogIndex: f.LastLog, CommitIndex: f.Commit,
			AppliedIndex: f.Applied, SnapshotIndex: f.Snap, Heard: f.Heard, LastContactMs: uint64(f.LastContact.Milliseconds())},
		Limits: processLimits(d.s.cfg.Connections), Certificates: certificatesPB(d.s.cfg.Diagnosis.Certificates),
		GossipKeyId: f.GossipKeyID, GossipMembers: f.GossipMembers, Alarms: alarms, HistoryTrouble: f.HistoryTrouble,
		UptimeMs: uint64(mono.Milliseconds()), Tls: d.s.cfg.TLS != nil, TokensRequired: d.s.cfg.TokensRequired,
		LogVersion: st.LogVersion, LogVersionUnderstood: understood(node), TokensEnding: tokensEnding(node.Access()),
	}
	peers := node.Peers()
	for _, p := range peers {
		if p.ID == node.ID() {
			answer.Api.Advertise = p.APIAddress
		}
		answer.RaftState.Members = append(answer.RaftState.Members, &pb.RaftMember{Id: p.ID, Address: p.Address, Voter: p.Voter,
			ApiAddress: p.APIAddress, Health: p.Health, MatchIndex: f.Match[p.ID]})
	}
	if r.GetProbe() {
		d.probe(ctx, n, peers, answer)
	}
	return answer, nil
}

// probe tries everything at once; each try has its own bound.
func (d *diagnosisService) probe(ctx context.Context, n diagnosed, peers []cluster.Peer, answer *pb.ExamineResponse) {
	var wg sync.WaitGroup
	var reached []cluster.Reached
	wg.Go(func() { reached = n.Reach(ctx) })
	wg.Go(func() { answer.Disk = diskPB(n.TryDisk(ctx)) })
	apis := make([]*pb.PeerProbe, len(peers))
	for i, p := range peers {
		if p.ID != d.s.cfg.Node.ID() && p.APIAddress != "" {
			wg.Go(func() { apis[i] = d.tryAPI(ctx, p) })
		}
	}
	wg.Wait()
	for _, p := range apis {
		if p != nil {
			answer.Probes = append(answer.Probes, p)
		}
	}
	for _, r := range reached {
		p := &pb.PeerProbe{Id: r.ID, Address: r.Address, Port: r.Port, TookUs: uint64(r.Took.Microseconds()), Resolved: r.Resolved}
		if r.Err != nil {
			p.Error = r.Err.Error()
		}
		answer.Probes = append(answer.Probes, p)
	}
}

// tryAPI connects to the API of another node as a forwarded call would, and asks who it is.
func (d *diagnosisService) tryAPI(ctx context.Context, p cluster.Peer) *pb.PeerProbe {
	out := metadata.Pairs(hopKey, "1")
	if token := metadata.ValueFromIncomingContext(ctx, "authorization"); len(token) > 0 {
		out.Set("authorization", token...)
	}
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, out), apiProbeBound)
	defer cancel()
	probe := &pb.PeerProbe{Id: p.ID, Address: p.APIAddress, Port: "api"}
	start := time.Now()
	err := func() error {
		host, _, err := net.SplitHostPort(p.APIAddress)
		if err != nil {
			return err
		}
		if net.ParseIP(host) == nil {
			if probe.Resolved, err = net.DefaultResolver.LookupHost(ctx, host); err != nil {
				return err
			}
		}
		conn, err := d.s.peers.dial(ctx, p.APIAddress) // says why it fails, which grpc does not
		if err != nil {
			return err
		}
		_ = conn.Close()
		cc, err := d.s.peers.to(p.APIAddress)
		if err != nil {
			return err
		}
		st, err := pb.NewClusterClient(cc).Status(ctx, &pb.StatusRequest{Stale: true})
		if err != nil {
			return err
		}
		probe.ClusterId = st.GetClusterId()
		if len(st.GetNodes()) > 0 {
			probe.AnsweredId = st.GetNodes()[0].GetId()
		}
		return nil
	}()
	if err != nil {
		probe.Error = err.Error()
	}
	probe.TookUs = uint64(time.Since(start).Microseconds())
	return probe
}

func diskPB(d cluster.DiskTried) *pb.DiskProbe {
	p := &pb.DiskProbe{Dir: d.Dir, FreeBytes: d.Free, TotalBytes: d.Total, Fsyncs: uint32(len(d.Syncs))}
	if n := len(d.Syncs); n > 0 {
		p.FsyncMedianUs, p.FsyncMaxUs = uint64(d.Syncs[n/2].Microseconds()), uint64(slices.Max(d.Syncs).Microseconds())
	}
	if d.Err != nil {
		p.Error = d.Err.Error()
	}
	return p
}

func processLimits(connections int) *pb.ProcessLimits {
	l := &pb.ProcessLimits{Connections: uint32(connections), Cpus: uint32(runtime.GOMAXPROCS(0))}
	l.OpenFiles, l.OpenFilesMax = openFileLimits()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.MemoryBytes = m.Sys
	return l
}

func certificatesPB(read func() []*x509.Certificate) (list []*pb.Certificate) {
	if read == nil {
		return nil
	}
	for i, c := range read() {
		use := "ca"
		if i == 0 {
			use = "node"
		}
		sum := sha256.Sum256(c.Raw)
		names := slices.Clone(c.DNSNames)
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
		list = append(list, &pb.Certificate{Use: use, Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: names,
			NotBefore: c.NotBefore.Format(time.RFC3339), NotAfter: c.NotAfter.Format(time.RFC3339), Fingerprint: hex.EncodeToString(sum[:])})
	}
	return list
}

// Of the ends of tokens: time enough to bring out new ones, and a list that a person reads.
const (
	tokenEndsSoon = 30 * 24 * time.Hour
	tokenEnded    = 7 * 24 * time.Hour
	maxTokenEnds  = 20
)

// tokensEnding are the tokens whose end is near, or was just now: some program may still
// use them.
func tokensEnding(table *access.Table, today lease.Calendar) (list []*pb.TokenEnd) {
	near := slices.DeleteFunc(table.List(), func(x access.Token) bool {
		left := x.Expires.Time().Sub(today.Time())
		return x.Expires == 0 || left > tokenEndsSoon || left < -tokenEnded
	})
	slices.SortFunc(near, func(a, b access.Token) int { return cmp.Compare(a.Expires, b.Expires) })
	for _, x := range near[:min(len(near), maxTokenEnds)] {
		list = append(list, &pb.TokenEnd{Id: x.ID, Role: x.Role.String(), Expires: date(x.Expires)})
	}
	return list
}

// errNoLog is returned where the program around keeps no log for readers.
var errNoLog = errors.New("this node keeps no log for readers")
