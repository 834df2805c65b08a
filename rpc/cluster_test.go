package rpc

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

var _ Node = (*cluster.Node)(nil)

// startCluster starts three real nodes on loopback with their APIs.
func startCluster(t *testing.T, trusted string) (addresses []string) {
	t.Helper()
	var join []string
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		gossip, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
		if err != nil {
			t.Fatal(err)
		}
		address := gossip.Addr().String()
		_ = gossip.Close()
		n, err := cluster.Start(cluster.Config{Name: fmt.Sprint("n", i+1), DataDir: t.TempDir(), RaftAddr: "127.0.0.1:0",
			GossipAddr: address, APIAddress: l.Addr().String(), Join: join, BootstrapExpect: 3, Version: "test",
			Fatal: func(reason string) { t.Error(reason) }})
		if err != nil {
			t.Fatal(err)
		}
		join = append(join, address)
		s, err := New(Config{Node: n, Version: "test", TrustedKeys: []string{trusted}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = s.Shutdown(ctx)
			if err := <-done; err != nil {
				t.Error(err)
			}
			_ = n.Shutdown(ctx)
		})
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

func TestRealClusterAnswersOnEveryNode(t *testing.T) {
	signer, verifier, err := license.GenerateKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	addresses := startCluster(t, verifier)
	follow := noRedirect(t)
	follow.CheckRedirect = nil
	for _, a := range addresses {
		eventually(t, a+" is ready", func() bool {
			return callWith(t, follow, http.MethodGet, "http://"+a+"/readyz", "").status == 200
		})
	}
	file, err := license.Sign(license.Format(lease.Licence{ID: "lic-1", Vendor: "acme", Tenant: "default",
		Issued:       lease.CalendarOf(time.Now()) / dayMs * dayMs,
		Entitlements: []lease.Entitlement{{Feature: "cad", Version: "1.0", Count: 3, Serial: "s1"}}}), signer)
	if err != nil {
		t.Fatal(err)
	}
	post := func(node int, path, body string) answer {
		t.Helper()
		return callWith(t, follow, http.MethodPost, "http://"+addresses[node]+path, body)
	}
	apply := post(0, "/v1/licenses", `{"file":"`+base64.StdEncoding.EncodeToString(file)+`"}`)
	if apply.status != 200 {
		t.Fatal(apply.status, apply.text)
	}
	redirects := 0
	var id, secret string
	for i, a := range addresses {
		body := fmt.Sprintf(`{"feature":"cad","user":"u%d","host":"ws1"}`, i)
		if got := callWith(t, noRedirect(t), http.MethodPost, "http://"+a+"/v1/renew", `{}`); got.status == 307 {
			t.Error("an invalid request is redirected")
		}
		got := callWith(t, noRedirect(t), http.MethodPost, "http://"+a+"/v1/checkout", body)
		if got.status == http.StatusTemporaryRedirect {
			redirects++
			got = post(i, "/v1/checkout", body) // curl -L
		}
		if got.status != 200 {
			t.Fatal(got.status, got.text)
		}
		id, secret = got.str(t, "session", "id"), got.str(t, "session", "secret")
	}
	if redirects != 2 {
		t.Errorf("%d of 3 nodes redirected, want 2", redirects)
	}
	wantRefusal(t, post(1, "/v1/checkout", `{"feature":"cad","user":"late"}`), 409, lease.NoSeats)

	waited := make(chan answer, 1)
	go func() { waited <- post(2, "/v1/checkout", `{"feature":"cad","user":"late","wait_ms":20000}`) }()
	if got := post(0, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret)); got.status != 200 {
		t.Error(got.text)
	}
	if got := <-waited; got.status != 200 {
		t.Error("waited:", got.status, got.text)
	}
	eventually(t, "all nodes have one hash at one index", func() bool {
		got := callWith(t, follow, http.MethodGet, "http://"+addresses[1]+"/v1/status", "")
		hashes := map[string]bool{}
		for i := range 3 {
			n, _ := dig(got.body, "nodes", i).(map[string]any)
			hashes[fmt.Sprint(n["applied_index"], n["state_hash"])] = true
		}
		return len(hashes) == 1
	})
	usage := callWith(t, follow, http.MethodGet, "http://"+addresses[0]+"/v1/usage", "")
	if list, _ := usage.body["records"].([]any); len(list) != 1 {
		t.Error("usage:", usage.text)
	}
}
