package rpc

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

func keys(v any) []string {
	m, _ := v.(map[string]any)
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestMinimalCurlCheckoutHasTheListedNames(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	got := a.post(t, "/v1/checkout", `{"feature":"cad","user":"ann","host":"ws1"}`,
		"X-Forwarded-For", "6.6.6.6", "Grpc-Metadata-X-Forwarded-For", "6.6.6.6")
	if got.status != http.StatusOK {
		t.Fatal(got.status, got.text)
	}
	for _, c := range []struct {
		path []any
		want []string
	}{
		{nil, []string{"leases", "raft_index", "refused", "replayed", "session", "term"}},
		{[]any{"session"}, []string{"heartbeat_ms", "id", "incarnation", "secret"}},
		{[]any{"leases", 0}, []string{"count", "feature", "fencing_token", "grace_ms", "handle", "id", "remaining_ms",
			"seats", "state", "version"}},
	} {
		if names := keys(dig(got.body, c.path...)); !slices.Equal(names, c.want) {
			t.Errorf("names at %v: %v, want %v", c.path, names, c.want)
		}
	}
	for _, path := range [][]any{{"raft_index"}, {"term"}, {"leases", 0, "id"}, {"leases", 0, "fencing_token"}, {"session", "incarnation"}} {
		got.str(t, path...) // 64-bit numbers are strings
	}
	if n := dig(got.body, "leases", 0, "seats", 0); n != 1.0 {
		t.Errorf("first seat is %v, want 1", n)
	}
	if n := dig(got.body, "leases", 0, "remaining_ms"); n != 120000.0 {
		t.Errorf("remaining_ms is %v, want 120000", n)
	}
	if ct := got.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
	cmd := a.node.proposed[len(a.node.proposed)-1].(lease.Checkout)
	if !cmd.Ephemeral || cmd.Principal.IP != "127.0.0.1" || cmd.Tenant != "default" {
		t.Errorf("command %+v: want an ephemeral session, the peer's address, tenant default", cmd)
	}
}

func TestRenewVerifyAndCheckinOfACurlSession(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, got := a.checkout(t, "cad", "ann")
	lid, token := got.str(t, "leases", 0, "id"), got.str(t, "leases", 0, "fencing_token")
	who := fmt.Sprintf(`"session_id":%q,"session_secret":%q`, id, secret)

	got = a.post(t, "/v1/renew", "{"+who+"}")
	if got.status != 200 || got.str(t, "leases", 0, "id") != lid {
		t.Fatal("renew:", got.status, got.text)
	}
	if got.str(t, "session", "secret") != "" {
		t.Error("renew shows the secret")
	}
	got = a.post(t, "/v1/verify", fmt.Sprintf(`{"lease_id":%q,"fencing_token":%q}`, lid, token))
	if got.body["valid"] != true {
		t.Fatal("verify:", got.text)
	}
	got = a.post(t, "/v1/verify", fmt.Sprintf(`{"lease_id":%q,"fencing_token":%q}`, lid, token+"9"))
	if got.status != 200 || got.body["valid"] != false {
		t.Fatal("verify with another token:", got.text)
	}
	got = a.post(t, "/v1/checkin", "{"+who+fmt.Sprintf(`,"lease_ids":[%s]}`, lid))
	if got.status != 200 || got.str(t, "released", 0, "reason") != "normal" {
		t.Fatal("checkin:", got.status, got.text)
	}
}

func TestWrongSecretIsForbidden(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, _, _ := a.checkout(t, "cad", "ann")
	for _, path := range []string{"/v1/renew", "/v1/checkin"} {
		wantRefusal(t, a.post(t, path, fmt.Sprintf(`{"session_id":%q,"session_secret":"guess"}`, id)), 403, lease.Forbidden)
	}
	wantRefusal(t, a.post(t, "/v1/renew", fmt.Sprintf(`{"session_id":%q}`, id)), 400, lease.Invalid, "session_secret")
}

func TestBadRequestsAreRefusedInOneLine(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	long := strings.Repeat("x", lease.MaxNameLen+1)
	tests := []struct {
		name, path, body string
		status           int
		reason           lease.Reason
		words            []string
	}{
		{"empty body", "/v1/checkout", "", 400, lease.Invalid, []string{"empty"}},
		{"broken JSON", "/v1/checkout", `{"feature":`, 400, lease.Invalid, []string{"JSON"}},
		{"no object", "/v1/checkout", `[1]`, 400, lease.Invalid, []string{"JSON"}},
		{"a form", "/v1/checkout", `feature=cad&user=ann`, 400, lease.Invalid, []string{"JSON"}},
		{"two objects", "/v1/checkout", `{"feature":"cad"}{"feature":"cad"}`, 400, lease.Invalid, []string{"JSON"}},
		{"unknown field", "/v1/checkout", `{"feature":"cad","usr":"ann"}`, 400, lease.Invalid, []string{`"usr"`}},
		{"word for number", "/v1/checkout", `{"feature":"cad","count":"many"}`, 400, lease.Invalid, []string{"count"}},
		{"deep nesting", "/v1/checkout", strings.Repeat(`{"items":[`, 20000), 400, lease.Invalid, nil},
		{"not UTF-8", "/v1/checkout", "{\"feature\":\"\xff\xfe\"}", 400, lease.Invalid, nil},
		{"zero", "/v1/checkout", `{"feature":"cad","count":0}`, 400, lease.Invalid, []string{"count"}},
		{"negative", "/v1/checkout", `{"feature":"cad","count":-3}`, 400, lease.Invalid, []string{"-3"}},
		{"negative item", "/v1/checkout", `{"items":[{"feature":"cad","count":-3}]}`, 400, lease.Invalid, []string{"-3"}},
		{"more than licensed", "/v1/checkout", `{"feature":"cad","count":11}`, 422, lease.TooManyRequested, nil},
		{"beyond int32", "/v1/checkout", `{"feature":"cad","count":99999999999}`, 400, lease.Invalid, []string{"count"}},
		{"no feature", "/v1/checkout", `{"user":"ann"}`, 400, lease.Invalid, []string{"feature"}},
		{"both forms", "/v1/checkout", `{"feature":"cad","items":[{"feature":"cad"}]}`, 400, lease.Invalid, []string{"not both"}},
		{"long name", "/v1/checkout", `{"feature":"cad","user":"` + long + `"}`, 400, lease.Invalid, []string{"user"}},
		{"control character", "/v1/checkout", `{"feature":"cad","host":"a\nb"}`, 400, lease.Invalid, []string{"host"}},
		{"long tenant", "/v1/checkout", `{"feature":"cad","tenant":"` + long + `"}`, 400, lease.Invalid, []string{"tenant"}},
		{"unknown feature", "/v1/checkout", `{"feature":"nope"}`, 404, lease.NoFeature, nil},
		{"version", "/v1/checkout", `{"feature":"cad","version":"2027.1"}`, 409, lease.BadVersion, nil},
		{"expired", "/v1/checkout", `{"feature":"old"}`, 403, lease.LicenseExpired, nil},
		{"seq alone", "/v1/checkout", `{"feature":"cad","seq":"1"}`, 400, lease.Invalid, []string{"session_id"}},
		{"bad session", "/v1/renew", `{"session_id":"xyz","session_secret":"s"}`, 400, lease.Invalid, []string{"session id"}},
		{"unknown session", "/v1/renew", `{"session_id":"` + strings.Repeat("ab", 16) + `","session_secret":"s"}`, 404, lease.SessionUnknown, nil},
		{"lease id zero", "/v1/checkin", `{"session_id":"` + strings.Repeat("ab", 16) + `","session_secret":"s","lease_ids":[0]}`, 400, lease.Invalid, []string{"lease id"}},
		{"kill everybody", "/v1/kill", `{}`, 400, lease.Invalid, []string{"which leases"}},
		{"verify nothing", "/v1/verify", `{}`, 400, lease.Invalid, []string{"lease_id"}},
		{"unsigned licence", "/v1/licenses", `{"file":"` + base64.StdEncoding.EncodeToString([]byte("free seats")) + `"}`, 403, lease.Forbidden, nil},
		{"no licence", "/v1/licenses", `{}`, 400, lease.Invalid, []string{"file"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := a.node.commands()
			got := a.post(t, tt.path, tt.body)
			wantRefusal(t, got, tt.status, tt.reason, tt.words...)
			if strings.Contains(got.str(t, "message"), "\n") {
				t.Error("more than one line:", got.text)
			}
			if tt.reason == lease.Invalid && a.node.commands() != before {
				t.Error("an invalid request reached the log")
			}
		})
	}
	a.checkout(t, "cad", "ann") // and the node goes on
}

func TestUnknownPathsMethodsAndParameters(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	wantRefusal(t, a.get(t, "/v1/nope"), 404, lease.Invalid, "/v1/nope")
	wantRefusal(t, a.get(t, "/v1/checkout"), 405, lease.Invalid, "GET")
	wantRefusal(t, a.post(t, "/v1/status", "{}"), 405, lease.Invalid, "POST")
	wantRefusal(t, a.post(t, "/livez", ""), 405, lease.Invalid, "POST")
	wantRefusal(t, a.get(t, "/v1/leases?usr=ann"), 400, lease.Invalid, "usr")
	wantRefusal(t, a.get(t, "/v1/leases?search="+strings.Repeat("x", 129)), 400, lease.Invalid, "search")
	wantRefusal(t, a.get(t, "/v1/leases?page_size=1001"), 400, lease.Invalid, "page_size")
	wantRefusal(t, a.get(t, "/v1/leases?page_token=%21"), 400, lease.Invalid, "page_token")
	wantRefusal(t, a.get(t, "/v1/leases?state=gone"), 400, lease.Invalid, "state")
	wantRefusal(t, a.get(t, "/v1/usage?from=yesterday"), 400, lease.Invalid, "from")
}

func TestStatusHasTheListedNames(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.checkout(t, "cad", "ann")
	got := a.get(t, "/v1/status")
	for _, c := range []struct {
		path []any
		want []string
	}{
		{nil, []string{"cluster_id", "leader", "epoch", "nodes", "pools"}},
		{[]any{"nodes", 0}, []string{"id", "address", "role", "applied_index", "state_hash"}},
		{[]any{"pools", 0}, []string{"feature", "version", "total", "in_use", "reserved", "queued"}},
	} {
		have := keys(dig(got.body, c.path...))
		for _, name := range c.want {
			if !slices.Contains(have, name) {
				t.Errorf("no %q at %v: %s", name, c.path, got.text)
			}
		}
	}
	if got.str(t, "nodes", 0, "role") != "leader" || len(got.str(t, "nodes", 0, "state_hash")) != 64 {
		t.Error("own node:", got.text)
	}
	if n := dig(got.body, "pools", 0, "in_use"); n != 1.0 {
		t.Errorf("in_use %v, want 1", n)
	}
	if got := a.get(t, "/v1/status/leader"); got.str(t, "id") != a.node.id || got.str(t, "address") != a.addr {
		t.Error("status/leader:", got.text)
	}
	if got := a.get(t, "/v1/status/peers"); got.str(t, "peers", 0, "state") != "leader" || got.str(t, "peers", 0, "name") != "n1" {
		t.Error("status/peers:", got.text)
	}
}

func TestLeasesComeInPages(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	for i := range 7 {
		a.checkout(t, "cad", fmt.Sprintf("user%d", i))
	}
	users := map[string]bool{}
	pages := 0
	for token := ""; ; pages++ {
		got := a.get(t, "/v1/leases?feature=cad&page_size=3&page_token="+token)
		list, _ := got.body["leases"].([]any)
		for i, l := range list {
			users[got.str(t, "leases", i, "user")] = true
			for _, name := range []string{"id", "handle", "feature", "count", "seats", "user", "host", "session_id",
				"state", "fencing_token", "since", "remaining_ms"} {
				if _, ok := l.(map[string]any)[name]; !ok {
					t.Errorf("a lease has no %q", name)
				}
			}
		}
		if token = got.str(t, "next_page_token"); token == "" {
			break
		}
	}
	if len(users) != 7 || pages != 2 {
		t.Errorf("%d users on %d pages, want 7 on 3", len(users), pages+1)
	}
	if got := a.get(t, "/v1/leases?user=user3"); len(got.body["leases"].([]any)) != 1 {
		t.Error("filter by user:", got.text)
	}
}

func TestKillShowsThenTakesBack(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, got := a.checkout(t, "cad", "ann")
	handle := dig(got.body, "leases", 0, "handle")
	a.checkout(t, "cad", "bob")
	a.checkout(t, "solver", "ann")
	count := func() int { return len(a.get(t, "/v1/leases").body["leases"].([]any)) }
	killed := func(body string) int {
		t.Helper()
		got := a.post(t, "/v1/kill", body)
		if got.status != 200 {
			t.Fatal(got.status, got.text)
		}
		return len(got.body["killed"].([]any))
	}

	if n := killed(`{"user":"ann","dry_run":true}`); n != 2 || count() != 3 {
		t.Fatalf("dry run: %d shown, %d left, want 2 and 3", n, count())
	}
	if n := killed(fmt.Sprintf(`{"handles":[%v],"user":"bob"}`, handle)); n != 0 || count() != 3 {
		t.Fatalf("selectors that contradict each other took %d back", n)
	}
	if n := killed(`{"user":"ann","tenant":"other"}`); n != 0 {
		t.Fatalf("another tenant's kill took %d back", n)
	}
	if n := killed(fmt.Sprintf(`{"handles":[%v]}`, handle)); n != 1 || count() != 2 {
		t.Fatalf("by handle: %d taken back, %d left, want 1 and 2", n, count())
	}
	got = a.post(t, "/v1/renew", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
	if got.status != 200 || got.str(t, "lost", 0, "reason") != "removed_by_admin" {
		t.Error("the holder does not learn of it:", got.status, got.text)
	}
	kill := a.node.proposed[len(a.node.proposed)-2].(lease.Kill)
	if kill.By != "anonymous@127.0.0.1" {
		t.Errorf("asked by %q", kill.By)
	}
}

func TestPreviewTakesNothing(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	got := a.post(t, "/v1/preview", `{"items":[{"feature":"mesh"},{"feature":"nope"}]}`)
	if got.body["granted"] != false || dig(got.body, "items", 0, "granted") != true ||
		got.str(t, "items", 1, "reason") != "no_feature" {
		t.Error(got.text)
	}
	if got := a.get(t, "/v1/leases"); len(got.body["leases"].([]any)) != 0 {
		t.Error("preview took a seat")
	}
}

func TestLicenceFromFileToSeats(t *testing.T) {
	signer, verifier, err := license.GenerateKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	l := lease.Licence{ID: "lic-2", Vendor: "acme", Tenant: "default", Issued: lease.CalendarOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		Entitlements: []lease.Entitlement{{Feature: "render", Version: "1.0", Count: 2, Serial: "r1"}}}
	file, err := license.Sign(license.Format(l), signer)
	if err != nil {
		t.Fatal(err)
	}
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.TrustedKeys = []string{verifier} })
	apply := func(file []byte) answer {
		return a.post(t, "/v1/licenses", `{"file":"`+base64.StdEncoding.EncodeToString(file)+`"}`)
	}
	wantRefusal(t, apply([]byte(strings.Replace(string(file), "2", "3", 1))), 403, lease.Forbidden)
	if got := apply(file); got.status != 200 || got.str(t, "license", "id") != "lic-2" {
		t.Fatal(got.status, got.text)
	}
	a.checkout(t, "render", "ann")
	if got := a.get(t, "/v1/licenses?id=lic-2"); got.str(t, "licenses", 0, "file") == "" ||
		got.str(t, "licenses", 0, "features", 0, "state") != "valid" {
		t.Error(got.text)
	}
	if got := a.get(t, "/v1/licenses"); got.str(t, "licenses", 0, "file") != "" {
		t.Error("a list shows the files:", got.text)
	}
	if got := a.post(t, "/v1/licenses/remove", `{"id":"lic-2"}`); got.status != 200 {
		t.Error(got.text)
	}
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"render"}`), 404, lease.NoFeature)
}

func TestUsageIsAnsweredFromOwnState(t *testing.T) {
	node := newFakeNode(t)
	node.leading = false
	node.usage = []lease.UsageRecord{{Lease: 7, Tenant: "default", Feature: "cad", Count: 2, Start: 1e9, End: 3e9,
		StartDate: fakeDay, EndDate: fakeDay + 2000, Reason: lease.ReleasedMissedHeartbeat}}
	a := startAPI(t, node, nil)
	got := a.get(t, "/v1/usage?from=2026-01-01T00:00:00Z&page_size=1")
	if got.str(t, "records", 0, "duration_ms") != "2000" || got.str(t, "records", 0, "reason") != "missed_heartbeat" ||
		got.body["truncated"] != false {
		t.Error(got.text)
	}
	node.set(func() { node.usage = append(node.usage, lease.UsageRecord{Lease: 8}) })
	got = a.get(t, "/v1/usage?page_size=1")
	if got.str(t, "records", 0, "lease_id") != "8" || got.body["truncated"] != true {
		t.Error("more than a page:", got.text)
	}
}
