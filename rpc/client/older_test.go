package client

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// oldNode is a node of a build that serves nothing but its status.
type oldNode struct {
	pb.UnimplementedClusterServer
	version string
}

func (n *oldNode) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Nodes: []*pb.NodeStatus{{Id: "n1", Version: n.version}}}, nil
}

func TestACallThatANodeIsTooOldForSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		version, want string
	}{
		"that tells its version": {"v0.1.0", "a:1 runs version v0.1.0, which does not know this request (unknown service seatkeeper.v1.Tenants)"},
		"that does not":          {"", "a:1 runs an older version, which does not know this request"},
	} {
		t.Run("a node "+name, func(t *testing.T) {
			l, srv := bufconn.Listen(1<<16), grpc.NewServer()
			pb.RegisterClusterServer(srv, &oldNode{version: c.version})
			go func() { _ = srv.Serve(l) }()
			t.Cleanup(srv.Stop)
			cl, err := New(Config{Addresses: []string{"a:1"}, Dial: func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close(context.WithoutCancel(t.Context()))
			_, err = cl.Tenants().TenantList(t.Context(), &pb.TenantListRequest{})
			if ReasonOf(err) != NotUpgraded || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "upgrade it") {
				t.Errorf("answered %v", err)
			}
		})
	}
}
