package rpc

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc/peer"
)

// caller is who a request comes from, as far as the node knows it.
type caller struct {
	// Name is written into audit trails.
	Name string
	// IP is the address at the other end of the connection. Forwarding headers are
	// never believed: anybody can write one.
	IP string
}

// authenticate is the one place that decides who calls and whether the method is
// allowed. Every call of either kind passes it before anything else happens. Today
// everybody may do everything and is named by address; tokens and client
// certificates are to be judged here, and peers' calls too.
func (s *Server) authenticate(ctx context.Context, method string, req any) (caller, error) {
	ip := remoteIP(ctx)
	return caller{Name: "anonymous@" + ip, IP: ip}, nil
}

func remoteIP(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	if conn, ok := p.Addr.(*connAddr); ok {
		return conn.ip
	}
	return ipOf(p.Addr)
}

func ipOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return addr.Unmap().WithZone("").String()
}
