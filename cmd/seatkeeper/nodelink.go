package main

import (
	"context"
	"crypto/tls"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// nodeLink is a connection to one node. What is asked over it is answered there and not by
// the leader, which is what the SDK would find.
type nodeLink struct {
	address string // host:port
	cc      *grpc.ClientConn
	token   string
}

// nodeLinkTimeout bounds the making of one connection.
const nodeLinkTimeout = 3 * time.Second

// linkNode prepares a connection; nothing is sent yet.
func linkNode(c Client, address string) (*nodeLink, error) {
	hostPort, secure, err := client.HostPort(address)
	if err != nil {
		return nil, usagef("%w", err)
	}
	creds := insecure.NewCredentials()
	if secure {
		settings, err := clientTLS(c)
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(settings)
	}
	cc, err := grpc.NewClient("passthrough:///"+hostPort, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: nodeLinkTimeout}))
	if err != nil {
		return nil, err
	}
	return &nodeLink{address: hostPort, cc: cc, token: c.Token}, nil
}

func (l *nodeLink) close() { _ = l.cc.Close() }

// with adds the token to a call.
func (l *nodeLink) with(ctx context.Context) context.Context {
	if l.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+l.token)
}

// clientTLS is what the client's settings come to.
func clientTLS(c Client) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		roots, err := readRoots(c.CACert)
		if err != nil {
			return nil, usagef("%w", err)
		}
		t.RootCAs = roots
	}
	if c.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, usagef("client certificate %s: %s", c.ClientCert, fileMessage(err))
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// nodeNamed finds the API address of a node by its name or id; "" takes the first address
// of the settings. The scheme is that of the settings.
func (a *app) nodeNamed(ctx context.Context, name string) (string, error) {
	addresses := splitList(a.cfg.Client.Addr)
	if len(addresses) == 0 {
		addresses = []string{client.DefaultAddress}
	}
	if name == "" {
		return addresses[0], nil
	}
	answer, err := a.peers(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(answer.Peers, func(p *pb.Peer) bool { return p.Name == name || p.Id == name })
	switch {
	case i < 0:
		return "", usagef("no member is called %q: seatkeeper members lists them", name)
	case answer.Peers[i].ApiAddress == "":
		return "", exitf(exitUnreachable, "nobody knows where the API of %s is: it is not alive; ask it by its address with --addr", name)
	}
	return withScheme(addresses[0], answer.Peers[i].ApiAddress), nil
}

// withScheme gives an address the scheme of another one.
func withScheme(like, address string) string {
	if _, secure, err := client.HostPort(like); err == nil && secure {
		return "https://" + address
	}
	return address
}

// linkError is apiError for what grpc itself says.
func linkError(err error) error {
	if err == nil {
		return nil
	}
	st := statusOf(err)
	if st.reason == "" {
		return refusal(client.Unreachable, plainTLS(st.message), false)
	}
	return refusal(lease.Reason(st.reason), st.message, st.final)
}

// nodeAnswer is an error of a call to one node: with a reason if the node itself refused.
type nodeAnswer struct {
	reason, message string
	final           bool
}

func statusOf(err error) nodeAnswer {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if p, ok := d.(*pb.Problem); ok {
			return nodeAnswer{p.Reason, p.Message, p.Final}
		}
	}
	message := st.Message()
	if inner := dialTrouble.FindStringSubmatch(message); inner != nil {
		message = inner[1]
	}
	if st.Code() == codes.Unimplemented {
		return nodeAnswer{string(lease.Invalid), "this node is too old to be asked that: upgrade it", true}
	}
	return nodeAnswer{message: message}
}
