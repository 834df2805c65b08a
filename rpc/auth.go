package rpc

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// caller is who a request comes from, as far as the node knows it.
type caller struct {
	// Name is written into audit trails.
	Name string
	// IP is the address at the other end of the connection. Forwarding headers are
	// never believed: anybody can write one.
	IP string
	// Token is what was shown and accepted; nil while the cluster is open.
	Token *access.Token
	// User is whom the caller is held to, by its token or its certificate; "": anybody.
	User string
}

// tenant is whom the caller acts for; "" means anybody.
func (c caller) tenant() string {
	if c.Token == nil {
		return ""
	}
	return c.Token.Tenant
}

// authenticate is the one place that decides who calls and whether the method is
// allowed. Every call of either kind passes it before anything else happens. A request
// that leaves its tenant or user open is given that of the caller.
func (s *Server) authenticate(ctx context.Context, method string, req any) (caller, error) {
	who := s.callerAt(ctx)
	table, today := s.cfg.Node.Access()
	r, known := rules[method]
	switch {
	case r.open:
		return who, nil
	case !known:
		r = rule{wide: true} // an admin's
	case !table.Enforced() && s.cfg.TokensRequired:
		const none = "no token was made yet, and this node serves nobody without one: make the first with seatkeeper acl bootstrap"
		if text, err := bearer(ctx); err == nil {
			return who, s.unknownToken(text, none)
		}
		return who, unauthenticated(none)
	}
	if table.Enforced() {
		text, err := bearer(ctx)
		if err != nil {
			return who, err
		}
		token, problem := table.Judge(text, today)
		if token == nil {
			return who, s.unknownToken(text, problem)
		}
		who.Token, who.Name = token, "token:"+token.ID
		if err := r.judge(token); err != nil {
			return who, err
		}
		if who.User = token.User; who.User != "" {
			who.Name += "(" + who.User + ")"
		}
	}
	if err := s.holdToCertificate(ctx, &who); err != nil {
		return who, err
	}
	return who, who.bind(r, req)
}

// callerAt names a caller by its certificate or else by its address.
func (s *Server) callerAt(ctx context.Context) caller {
	who := caller{IP: remoteIP(ctx)}
	who.Name = "anonymous@" + who.IP
	if conn := connOf(ctx); conn != nil && conn.cert != nil {
		who.Name = "cert:" + conn.cert.Subject.CommonName
	}
	return who
}

// judge says whether a token may make the call.
func (r rule) judge(t *access.Token) error {
	switch {
	case !r.allows(t.Role):
		return forbidden(fmt.Sprintf("a token with the role %s may not do this", t.Role))
	case r.wide && t.Tenant != "":
		return forbidden("this is about the whole cluster: a token of one tenant may not do it")
	}
	return nil
}

// holdToCertificate holds a client to the user that its certificate names, where the node
// is told to. A request that another node passes on was judged there.
func (s *Server) holdToCertificate(ctx context.Context, who *caller) error {
	conn := connOf(ctx)
	if !s.cfg.BindUser || conn == nil || conn.cert == nil || s.isNode(conn.cert) {
		return nil
	}
	name := conn.cert.Subject.CommonName
	if who.User != "" && who.User != name {
		return forbidden(fmt.Sprintf("the token is %.80q's and the certificate %.80q's: use both of one user", who.User, name))
	}
	who.User = name
	return nil
}

// isNode says whether a verified certificate is that of a node of this cluster.
func (s *Server) isNode(c *x509.Certificate) bool {
	return s.cfg.PeerName != "" && c.VerifyHostname(s.cfg.PeerName) == nil
}

// bind holds a request to the tenant and the user of the caller.
func (c caller) bind(r rule, req any) error {
	tenant, user := c.tenant(), c.User
	if tenant == "" && (user == "" || !r.acts) {
		return nil
	}
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if err := bindField(m, "tenant", tenant); err != nil {
		return err
	}
	if r.acts {
		return bindField(m, "user", user)
	}
	return nil
}

// bindField gives a field of a request its only allowed value.
func bindField(m proto.Message, name protoreflect.Name, to string) error {
	msg := m.ProtoReflect()
	f := msg.Descriptor().Fields().ByName(name)
	if to == "" || f == nil || f.Kind() != protoreflect.StringKind {
		return nil
	}
	switch got := msg.Get(f).String(); got {
	case to:
	case "":
		msg.Set(f, protoreflect.ValueOfString(to))
	default:
		return forbidden(fmt.Sprintf("you act for %s %.80q only, not for %.80q", name, to, got))
	}
	return nil
}

// unknownToken is the answer to a token that this node does not accept. A node that does
// not lead may not have heard of it yet, so the leader has the last word.
func (s *Server) unknownToken(text, problem string) error {
	if _, _, ok := access.Parse(text); !ok {
		return unauthenticated(problem) // nor will the leader
	}
	if epoch, ok := s.cfg.Node.Leader(); ok && !s.cfg.Node.Leading() && epoch.Node != s.cfg.Node.ID() {
		return &cluster.NotLeaderError{Leader: epoch}
	}
	return unauthenticated(problem)
}

// bearer is the token of a call. No error ever shows what was sent.
func bearer(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return "", unauthenticated("this cluster wants a token: send it as \"Authorization: Bearer TOKEN\"")
	case 1:
	default:
		return "", unauthenticated("more than one Authorization header")
	}
	scheme, text, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", unauthenticated("the Authorization header is not of the form \"Bearer TOKEN\"")
	}
	return strings.TrimSpace(text), nil
}

func unauthenticated(message string) error {
	return &lease.Refusal{Reason: Unauthenticated, Message: message, Final: true}
}

func forbidden(message string) error {
	return &lease.Refusal{Reason: lease.Forbidden, Message: message, Final: true}
}

// withBearer lets what is served by HTTP alone pass authenticate like any call.
func withBearer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if values := r.Header.Values("Authorization"); len(values) > 0 {
			r = r.WithContext(metadata.NewIncomingContext(r.Context(), metadata.MD{"authorization": values}))
		}
		next.ServeHTTP(w, r)
	})
}

// guarded serves next to those who may make the call that method stands for.
func (s *Server) guarded(method string, next http.Handler) http.Handler {
	return withBearer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.authenticate(r.Context(), method, nil); err != nil {
			apiError(r.Context(), nil, nil, w, r, statusOf(err, s.cfg.Node.ID(), s.cfg.Node.Leader).Err())
			return
		}
		next.ServeHTTP(w, r)
	}))
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
