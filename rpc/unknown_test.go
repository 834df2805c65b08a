package rpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// A newer program is told which version does not know its call; strangers are not.
func TestACallOfANewerProgramIsToldTheVersion(t *testing.T) {
	n := newFakeNode(t)
	a := startAPI(t, n, func(c *Config) { c.Version = "v0.1.0" })
	c := a.dial(t)
	call := func(method, token string) error {
		ctx := t.Context()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		return c.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	older := func(method, token, name string) {
		t.Helper()
		err := call(method, token)
		p, _ := details(status.Convert(err))
		if status.Code(err) != codes.Unimplemented || p == nil || p.Reason != string(NotUpgraded) || !p.Final {
			t.Fatalf("%s: %v", method, err)
		}
		for _, word := range []string{"n1-00000001 runs version v0.1.0", name, "upgrade it"} {
			if !strings.Contains(p.Message, word) || strings.Contains(p.Message, "\n") {
				t.Errorf("%s: %q does not say %q", method, p.Message, word)
			}
		}
	}
	older("/seatkeeper.v1.Futures/Foretell", "", "Futures/Foretell")
	older("/seatkeeper.v1.Seats/Foretell", "", "Seats/Foretell")
	older("/seatkeeper.v1.Operator/Foretell", "", "Operator/Foretell")
	if err := call("/other.v1.Thing/Do", ""); status.Code(err) != codes.Unimplemented || strings.Contains(err.Error(), "v0.1.0") {
		t.Errorf("a call that is not ours: %v", err)
	}

	secret := [access.SecretBytes]byte{7}
	text := access.Text([access.IDBytes]byte{1}, secret)
	viewer := access.Token{Role: access.Viewer}
	viewer.ID, viewer.Digest, _ = access.Parse(text)
	admin := access.Token{ID: "0011223344556677", Digest: [32]byte{1}, Role: access.Admin}
	for _, cmd := range []fsm.CreateToken{{Token: admin, First: true}, {Token: viewer}} {
		if r, err := n.Propose(t.Context(), cmd); err != nil || r.Reply.Refusal != nil {
			t.Fatal(err, r.Reply.Refusal)
		}
	}
	if err := call("/seatkeeper.v1.Futures/Foretell", ""); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	older("/seatkeeper.v1.Futures/Foretell", text, "Futures/Foretell")

	for _, family := range gather(t, a) {
		if strings.Contains(family, "Foretell") {
			t.Errorf("callers choose the labels of metrics: %s", family)
		}
	}
}

// gather is all that the server tells of itself.
func gather(t *testing.T, a *api) (list []string) {
	t.Helper()
	families, err := a.cfg.Gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		list = append(list, f.String())
	}
	return list
}
