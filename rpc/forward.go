package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

// maxPeerConns bounds the kept connections to other nodes: a cluster has five, and
// addresses change when nodes are replaced.
const maxPeerConns = 16

// maxPeerAnswer bounds an answer of another node: a full listing is below it.
const maxPeerAnswer = 16 << 20

// peerConns keeps one connection per API address of another node.
type peerConns struct {
	tls func() *tls.Config // nil: plain text

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

func newPeerConns(tls func() *tls.Config) *peerConns {
	return &peerConns{tls: tls, conns: make(map[string]*grpc.ClientConn)}
}

// dial connects to another node. TLS is begun here and not by grpc, so that each
// connection has the certificate of its time.
func (p *peerConns) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: peerDialBound}).DialContext(ctx, "tcp", address)
	if err != nil || p.tls == nil {
		return conn, err
	}
	settings := p.tls().Clone()
	settings.NextProtos = []string{"h2"}
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

func (p *peerConns) to(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, cluster.ErrStopped
	}
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	if len(p.conns) >= maxPeerConns {
		p.dropAll()
	}
	// No proxy: nodes reach each other directly or not at all.
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithNoProxy(),
		grpc.WithContextDialer(p.dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxPeerAnswer), grpc.ForceCodecV2(wire.NewCodec(nil))))
	if err != nil {
		return nil, err
	}
	p.conns[address] = c
	return c, nil
}

func (p *peerConns) dropAll() {
	for address, c := range p.conns {
		_ = c.Close()
		delete(p.conns, address)
	}
}

func (p *peerConns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.dropAll()
}

// ready waits until the connection stands, so that a failure to connect is known to
// be "not sent".
func ready(ctx context.Context, c *grpc.ClientConn) bool {
	ctx, cancel := context.WithTimeout(ctx, peerDialBound)
	defer cancel()
	c.Connect()
	for {
		state := c.GetState()
		if state == connectivity.Ready {
			return true
		}
		if state == connectivity.Idle {
			c.Connect()
		}
		if !c.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// forward calls the leader in the caller's place. The hop mark makes it one hop
// only: a node that is asked with it answers or refuses, and never forwards.
func (s *Server) forward(ctx context.Context, method string, req any) (any, error) {
	epoch, ok := s.cfg.Node.Leader()
	if !ok || epoch.APIAddress == "" || epoch.Node == s.cfg.Node.ID() {
		return nil, &cluster.NotLeaderError{}
	}
	reply, err := newReply(method)
	if err != nil {
		return nil, err
	}
	conn, err := s.peers.to(epoch.APIAddress)
	if err != nil {
		return nil, cluster.ErrNotApplied
	}
	if !ready(ctx, conn) {
		return nil, cluster.ErrNotApplied
	}
	out := metadata.Pairs(hopKey, "1")
	if token := metadata.ValueFromIncomingContext(ctx, "authorization"); len(token) > 0 {
		out.Set("authorization", token...)
	}
	ctx, span := s.forwarding(ctx, epoch.APIAddress, out)
	err = conn.Invoke(metadata.NewOutgoingContext(ctx, out), method, req, reply)
	endSpan(span, status.Convert(err))
	if err == nil {
		return reply, nil
	}
	if problem, _ := details(status.Convert(err)); problem == nil {
		// The leader did not speak; the request may have reached it.
		return nil, cluster.ErrUnknown
	}
	return nil, err
}

// forwardUnknown forwards the call of a token that this node does not know; the leader
// judges it. The certificate is judged here, because the leader sees this node's only.
func (s *Server) forwardUnknown(ctx context.Context, method string, req any, who caller) (any, error) {
	err := s.holdToCertificate(ctx, &who)
	if err == nil {
		err = who.bind(rules[method], req)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout+waitOf(req))
	defer cancel()
	return s.forward(ctx, method, req)
}

// newReply makes the empty answer of a method, "/package.Service/Method".
func newReply(method string) (proto.Message, error) {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, invalid("not a method: " + method)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		return nil, err
	}
	return t.New().Interface(), nil
}

// gather asks the other members for their own view of themselves, all at once and
// for at most peerStatusBound, and returns what answered by node id.
func (s *Server) gather(ctx context.Context, peers []cluster.Peer) map[string]*pb.NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, peerStatusBound)
	defer cancel()
	out := metadata.Pairs(hopKey, "1")
	if token := metadata.ValueFromIncomingContext(ctx, "authorization"); len(token) > 0 {
		out.Set("authorization", token...)
	}
	ctx = metadata.NewOutgoingContext(ctx, out)
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		found = make(map[string]*pb.NodeStatus, len(peers))
	)
	for _, p := range peers {
		if p.ID == s.cfg.Node.ID() || p.APIAddress == "" {
			continue
		}
		wg.Go(func() {
			conn, err := s.peers.to(p.APIAddress)
			if err != nil {
				return
			}
			st, err := pb.NewClusterClient(conn).Status(ctx, &pb.StatusRequest{Stale: true}, grpc.WaitForReady(true))
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, n := range st.GetNodes() {
				found[n.GetId()] = n
			}
		})
	}
	wg.Wait()
	return found
}
