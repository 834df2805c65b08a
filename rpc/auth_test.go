package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// ownMethods are all methods of the API.
func ownMethods() (list []protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFilesByPackage("seatkeeper.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for k := range methods.Len() {
				list = append(list, methods.Get(k))
			}
		}
		return true
	})
	return list
}

func fullName(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

func TestEveryMethodHasARule(t *testing.T) {
	known := map[string]bool{metricsMethod: true}
	for _, m := range ownMethods() {
		name := fullName(m)
		known[name] = true
		r, ok := rules[name]
		if !ok {
			t.Errorf("%s is in no row of the table in roles.go: say there who may call it", name)
			continue
		}
		// A token of one tenant is held to it by the request's tenant. A request without
		// one must be about the whole cluster, or show the secret of a session.
		in := m.Input().Fields()
		bySecret := in.ByName("session_secret") != nil || in.ByName("session_secrets") != nil
		if in.ByName("tenant") == nil && !r.wide && !r.open && !bySecret && !tenantless[name] {
			t.Errorf("%s has no tenant: make its rule wide, or say in this test why it needs none", name)
		}
		if r.acts && in.ByName("user") == nil {
			t.Errorf("%s acts for a user and names none", name)
		}
	}
	if len(known) < 30 {
		t.Fatalf("only %d methods are found", len(known))
	}
	for name := range rules {
		if !known[name] {
			t.Errorf("the table has a rule for %s, which is no method", name)
		}
	}
}

// tenantless methods give away nothing of a tenant, or find it by themselves.
var tenantless = map[string]bool{
	pb.Seats_Pipeline_FullMethodName:         true, // each call in it is judged by itself
	pb.Cluster_StatusLeader_FullMethodName:   true, // addresses of nodes
	pb.Cluster_StatusPeers_FullMethodName:    true, // the same
	pb.Cluster_LicenseApply_FullMethodName:   true, // the tenant is in the file, and checked
	pb.Borrowing_BorrowKeys_FullMethodName:   true, // public keys
	pb.Borrowing_RenewBorrow_FullMethodName:  true, // shows a signed token
	pb.Borrowing_ReturnBorrow_FullMethodName: true, // the same
	pb.Access_WhoAmI_FullMethodName:          true, // the caller itself
}

// give makes a token straight in the node's table and returns its text.
func (n *fakeNode) give(t *testing.T, x access.Token) string {
	t.Helper()
	n.mu.Lock()
	first := !n.tokens.Enforced()
	number := byte(len(n.tokens.List()) + 1)
	n.mu.Unlock()
	text := access.Text([access.IDBytes]byte{number}, [access.SecretBytes]byte{number})
	x.ID, x.Digest, _ = access.Parse(text)
	if applied, err := n.Propose(t.Context(), fsm.CreateToken{Token: x, First: first}); err != nil || applied.Reply.Refusal != nil {
		t.Fatal(err, applied.Reply.Refusal)
	}
	return text
}

func withToken(ctx context.Context, text string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+text)
}

func TestRolesMayDoWhatTheTableSays(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	tokens := map[access.Role]string{access.Admin: node.give(t, access.Token{Role: access.Admin})}
	for _, role := range []access.Role{access.Viewer, access.Operator, access.Vendor, access.Client} {
		tokens[role] = node.give(t, access.Token{Role: role})
	}
	conn := a.dial(t)
	for _, m := range ownMethods() {
		name := fullName(m)
		if m.IsStreamingClient() || m.IsStreamingServer() || rules[name].open {
			continue
		}
		for role, text := range tokens {
			reply, err := newReply(name)
			if err != nil {
				t.Fatal(err)
			}
			err = conn.Invoke(withToken(t.Context(), text), name, newRequest(t, m), reply)
			refused := status.Code(err) == codes.PermissionDenied && strings.Contains(status.Convert(err).Message(), "a token with the role")
			if refused == rules[name].allows(role) || status.Code(err) == codes.Unauthenticated {
				t.Errorf("%s as %s: %v, want it allowed: %v", name, role, err, rules[name].allows(role))
			}
		}
		for what, ctx := range map[string]context.Context{
			"no token":      t.Context(),
			"unknown token": withToken(t.Context(), access.Text([8]byte{77}, [32]byte{77})),
			"garbage":       withToken(t.Context(), "x"),
			"two tokens":    withToken(withToken(t.Context(), tokens[access.Admin]), tokens[access.Admin]),
		} {
			reply, _ := newReply(name)
			if err := conn.Invoke(ctx, name, newRequest(t, m), reply); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s with %s: %v, want unauthenticated", name, what, err)
			}
		}
	}
}

func newRequest(t *testing.T, m protoreflect.MethodDescriptor) any {
	t.Helper()
	x, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		t.Fatal(err)
	}
	return x.New().Interface()
}

func TestStreamsAreJudgedToo(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	admin := node.give(t, access.Token{Role: access.Admin})
	viewer := node.give(t, access.Token{Role: access.Viewer})
	client := node.give(t, access.Token{Role: access.Client, User: "ann"})
	conn := a.dial(t)
	for _, m := range ownMethods() {
		if !m.IsStreamingClient() && !m.IsStreamingServer() {
			continue
		}
		for text, want := range map[string]codes.Code{"": codes.Unauthenticated, viewer: codes.PermissionDenied} {
			ctx := t.Context()
			if text != "" {
				ctx = withToken(ctx, text)
			}
			stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, fullName(m))
			if err == nil {
				_ = stream.SendMsg(newRequest(t, m))
				_ = stream.CloseSend()
				reply, _ := newReply(fullName(m))
				err = stream.RecvMsg(reply)
			}
			if status.Code(err) != want {
				t.Errorf("%s: %v, want %v", fullName(m), err, want)
			}
		}
	}

	// A call in a pipeline is judged when it is made: by user, and by a token that was
	// revoked since.
	stream, err := pb.NewSeatsClient(conn).Pipeline(withToken(t.Context(), client))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(user string) *pb.PipelineAnswer {
		t.Helper()
		call := &pb.PipelineCall{Of: &pb.PipelineCall_Checkout{Checkout: &pb.CheckoutRequest{Feature: "cad", User: user}}}
		if err := stream.Send(&pb.PipelineRequest{Calls: []*pb.PipelineCall{call}}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r.Answers[0]
	}
	if x := ask("bob"); x.GetProblem().GetReason() != string(lease.Forbidden) {
		t.Errorf("a checkout for another user: %v", x)
	}
	if x := ask(""); x.GetCheckout() == nil {
		t.Errorf("a checkout for the token's user: %v", x)
	}
	id, _, _ := access.Parse(client)
	if r := a.call(t, "POST", "/v1/tokens/revoke", fmt.Sprintf(`{"id":%q}`, id), "Authorization", "Bearer "+admin); r.status != http.StatusOK {
		t.Fatal(r.text)
	}
	if x := ask(""); x.GetProblem().GetReason() != string(Unauthenticated) {
		t.Errorf("with a revoked token: %v", x)
	}
}

func TestTokensOverJSON(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	if r := a.call(t, "GET", "/v1/leases", ""); r.status != http.StatusOK {
		t.Fatalf("an open cluster asks for a token: %s", r.text)
	}
	boot := a.call(t, "POST", "/v1/acl/bootstrap", "{}")
	admin := "Bearer " + boot.str(t, "secret")
	if again := a.call(t, "POST", "/v1/acl/bootstrap", "{}"); again.status != http.StatusForbidden {
		t.Errorf("a second bootstrap: %d %s", again.status, again.text)
	}
	made := a.call(t, "POST", "/v1/tokens", `{"role":"client","tenant":"default","user":"ann","expires_in_s":60}`, "Authorization", admin)
	client := "Bearer " + made.str(t, "secret")
	for _, c := range []struct {
		method, path, body, token string
		status                    int
		want                      string
	}{
		{"GET", "/v1/status", "", "", 401, "this cluster wants a token"},
		{"GET", "/v1/status", "", "Basic eDp5", 401, "not of the form"},
		{"GET", "/v1/status", "", client, 200, ""},
		{"GET", "/metrics", "", "", 401, "this cluster wants a token"},
		{"GET", "/metrics", "", client, 403, "the role client"},
		{"GET", "/metrics", "", admin, 200, ""},
		{"GET", "/v1/snapshot", "", client, 403, "the role client"},
		{"GET", "/livez", "", "", 200, ""},
		{"GET", "/readyz", "", "", 200, ""},
		{"GET", "/v1/sys/health", "", "", 200, ""},
		{"GET", "/v1/leases", "", client, 403, "the role client may not do this"},
		{"POST", "/v1/checkout", `{"feature":"cad"}`, client, 200, `"`},
		{"POST", "/v1/checkout", `{"feature":"cad","user":"ann"}`, client, 200, ""},
		{"POST", "/v1/checkout", `{"feature":"cad","user":"bob"}`, client, 403, `you act for user \"ann\" only, not for \"bob\"`},
		{"POST", "/v1/preview", `{"feature":"cad","user":"bob"}`, client, 403, `you act for user`},
		{"POST", "/v1/checkout", `{"feature":"cad","tenant":"other"}`, client, 403, `you act for tenant \"default\" only`},
		{"GET", "/v1/tokens", "", client, 403, "the role client"},
		{"GET", "/v1/tokens", "", admin, 200, `"user":"ann"`},
		{"GET", "/v1/whoami", "", client, 200, `"tenant":"default"`},
	} {
		var header []string
		if c.token != "" {
			header = []string{"Authorization", c.token}
		}
		r := a.call(t, c.method, c.path, c.body, header...)
		if r.status != c.status || !strings.Contains(r.text, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", c.method, c.path, c.body, r.status, r.text, c.status, c.want)
		}
		if r.status == 401 && r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s %s: 401 without WWW-Authenticate", c.method, c.path)
		}
	}
	// In time it is over.
	node.set(func() { node.book.Advance(lease.Time(node.index), fakeDay+61_000) })
	if r := a.call(t, "GET", "/v1/status", "", "Authorization", client); r.status != 401 || !strings.Contains(r.text, "has expired") {
		t.Errorf("after its end: %d %s", r.status, r.text)
	}
	// The checkouts were in the name of the token's user.
	for _, cmd := range node.proposed {
		if c, ok := cmd.(lease.Checkout); ok && c.Principal.User != "ann" {
			t.Errorf("a checkout for %q", c.Principal.User)
		}
	}
}

func TestATokenOfOneTenantStaysThere(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	node.give(t, access.Token{Role: access.Admin})
	boss := "Bearer " + node.give(t, access.Token{Role: access.Admin, Tenant: "acme"})
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/v1/leases?tenant=default", "", 403},
		{"GET", "/v1/leases", "", 200},
		{"POST", "/v1/kill", `{"tenant":"default","user":"ann"}`, 403},
		{"GET", "/v1/usage?tenant=default", "", 403},
		{"GET", "/v1/tokens", "", 403},
		{"POST", "/v1/operator/transfer-leader", `{}`, 403},
		{"GET", "/v1/snapshot", "", 403},
		{"GET", "/metrics", "", 403},
	} {
		if r := a.call(t, c.method, c.path, c.body, "Authorization", boss); r.status != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, r.status, r.text, c.want)
		}
	}
	// Nothing said means its own tenant, and not that of everybody.
	r := a.call(t, "POST", "/v1/checkout", `{"feature":"cad"}`, "Authorization", boss)
	if r.status != http.StatusNotFound {
		t.Errorf("a seat of the default tenant: %d %s", r.status, r.text)
	}
}

func TestServerMayAskForTokensFromTheStart(t *testing.T) {
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.TokensRequired = true })
	if r := a.call(t, "GET", "/v1/status", ""); r.status != http.StatusUnauthorized || !strings.Contains(r.text, "seatkeeper acl bootstrap") {
		t.Errorf("%d %s", r.status, r.text)
	}
	boot := a.call(t, "POST", "/v1/acl/bootstrap", "{}")
	if r := a.call(t, "GET", "/v1/status", "", "Authorization", "Bearer "+boot.str(t, "secret")); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.text)
	}
}

func TestAFollowerLeavesATokenItDoesNotKnowToTheLeader(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	node.give(t, access.Token{Role: access.Admin})
	node.set(func() { node.leading, node.epoch.Node, node.epoch.APIAddress = false, "n2-00000002", "192.0.2.1:7800" })
	fresh := access.Text([8]byte{9}, [32]byte{9})
	if r := a.call(t, "GET", "/v1/status", "", "Authorization", "Bearer "+fresh); r.status != http.StatusTemporaryRedirect {
		t.Errorf("%d %s", r.status, r.text)
	}
}

// The first token of a cluster is used a moment after it was made, at a node that has not heard
// of any yet.
func TestAFollowerLeavesTheFirstTokenToTheLeader(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.TokensRequired = true })
	node.set(func() { node.leading, node.epoch.Node, node.epoch.APIAddress = false, "n2-00000002", "192.0.2.1:7800" })
	first := access.Text([8]byte{9}, [32]byte{9})
	if r := a.call(t, "GET", "/v1/status", "", "Authorization", "Bearer "+first); r.status != http.StatusTemporaryRedirect {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := a.call(t, "GET", "/v1/status", ""); r.status != http.StatusUnauthorized {
		t.Errorf("without one: %d %s", r.status, r.text)
	}
}

func TestCertificateHoldsAClientToItsUser(t *testing.T) {
	p := newPKI(t)
	serve := p.serve(tls.RequireAndVerifyClientCert)
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { serve(c); c.BindUser = true })
	ann := pb.NewSeatsClient(a.dialTLS(t, p.client(p.sign("ann", false))))
	if _, err := ann.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", User: "bob"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("for another user: %v", err)
	}
	if _, err := ann.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad"}); err != nil {
		t.Errorf("for herself: %v", err)
	}
	// Another node passes on what it has judged.
	peer := pb.NewSeatsClient(a.dialTLS(t, p.client(p.sign("n2", true))))
	if _, err := peer.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", User: "bob"}); err != nil {
		t.Errorf("passed on by a node: %v", err)
	}
	node.give(t, access.Token{Role: access.Admin})
	bobs := node.give(t, access.Token{Role: access.Client, User: "bob"})
	if _, err := ann.Checkout(withToken(t.Context(), bobs), &pb.CheckoutRequest{Feature: "cad"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("with the token of another user: %v", err)
	}
}

// A follower that has not heard of a token asks the leader, where it is asked to forward.
func TestTokenUnknownToAFollowerIsJudgedByTheLeader(t *testing.T) {
	leader, follower := startPair(t)
	known := leader.node.give(t, access.Token{Role: access.Admin})
	follower.node.mu.Lock()
	follower.node.tokens, _ = (*access.Table)(nil).Create(strangeToken(), true, 0)
	follower.node.mu.Unlock()
	for _, c := range []struct {
		what, text string
		headers    []string
		want       int
	}{
		{"one of the leader's", known, []string{"X-Seatkeeper-Forward", "1"}, http.StatusOK},
		{"one of nobody", access.Text([8]byte{77}, [32]byte{77}), []string{"X-Seatkeeper-Forward", "1"}, http.StatusUnauthorized},
		{"garbage", "letmein", []string{"X-Seatkeeper-Forward", "1"}, http.StatusUnauthorized},
		{"garbage, not to be forwarded", "letmein", nil, http.StatusUnauthorized},
		{"one of the leader's, not to be forwarded", known, nil, http.StatusTemporaryRedirect},
	} {
		got := follower.call(t, http.MethodGet, "/v1/leases", "", append([]string{"Authorization", "Bearer " + c.text}, c.headers...)...)
		if got.status != c.want {
			t.Errorf("%s: %d %s, want %d", c.what, got.status, got.text, c.want)
		}
	}
}

func strangeToken() access.Token {
	x := access.Token{Role: access.Admin}
	x.ID, x.Digest, _ = access.Parse(access.Text([8]byte{99}, [32]byte{99}))
	return x
}
