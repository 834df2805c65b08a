package rpc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
)

// lendingAPI serves two seats of van that may be borrowed for a day.
func lendingAPI(t *testing.T) *api {
	t.Helper()
	node := newFakeNode(t)
	l := testLicence()
	l.ID = "lic-2"
	l.Entitlements = l.Entitlements[:1]
	l.Entitlements[0].Feature, l.Entitlements[0].Serial, l.Entitlements[0].Count = "van", "v1", 2
	l.Entitlements[0].BorrowHours = 24
	if a, err := node.Propose(context.Background(), lease.InstallLicence{Licence: l}); err != nil || a.Reply.Refusal != nil {
		t.Fatal(err, a.Reply.Refusal)
	}
	return startAPI(t, node, nil)
}

const anHour = `{"feature":"van","user":"ann","host":"ws1","term_ms":"3600000"}`

func (a *api) jwks(t *testing.T) (offline.Keys, string) {
	t.Helper()
	got := a.get(t, "/.well-known/jwks.json")
	set, err := offline.ParseKeys([]byte(got.text))
	if err != nil || got.status != 200 || got.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Fatal(err, got.status, got.header)
	}
	return set, got.text
}

func TestBorrowedSeatComesWithATokenThatTheKeysVerify(t *testing.T) {
	a := lendingAPI(t)
	if set, _ := a.jwks(t); len(set.Keys) != 0 {
		t.Errorf("%d keys before anything was borrowed", len(set.Keys))
	}
	got := a.post(t, "/v1/borrow", anHour)
	if got.status != 200 || got.str(t, "lease", "state") != "borrowed" {
		t.Fatal(got.status, got.text)
	}
	until := fakeDay.Time().Add(time.Hour)
	if got.str(t, "until") != until.Format(time.RFC3339) || got.str(t, "renew_after_ms") != "1800000" {
		t.Errorf("until %s, renew after %s", got.str(t, "until"), got.str(t, "renew_after_ms"))
	}
	set, text := a.jwks(t)
	if got.str(t, "jwks")+"\n" != text {
		t.Error("the answer brings other keys than are published")
	}
	c, err := offline.Read(got.str(t, "token"), set)
	if err != nil {
		t.Fatal(err)
	}
	want := offline.Claims{Issuer: offline.Issuer, Cluster: c.Cluster, Tenant: "default", Vendor: "acme", Licence: "lic-2", Feature: "van", Version: "2026.0", Count: 1,
		User: "ann", Host: "ws1", LeaseID: c.LeaseID, FencingToken: c.FencingToken,
		IssuedAt: int64(fakeDay) / 1000, NotBefore: int64(fakeDay) / 1000, Expires: until.Unix()}
	if c != want || fmt.Sprint(c.LeaseID) != got.str(t, "lease", "id") || fmt.Sprint(c.FencingToken) != got.str(t, "lease", "fencing_token") {
		t.Errorf("claims %+v\nwant   %+v", c, want)
	}
	var keys jose.JSONWebKeySet // and as others read it
	if err := json.Unmarshal([]byte(text), &keys); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(got.str(t, "token"), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jws.Verify(keys.Keys[0]); err != nil {
		t.Error(err)
	}
	if l := a.get(t, "/v1/leases?state=borrowed"); l.str(t, "leases", 0, "until") != until.Format(time.RFC3339) || l.str(t, "leases", 0, "user") != "ann" {
		t.Error("listed as", l.text)
	}
}

func TestTheTokenIsTheRightToRenewAndReturn(t *testing.T) {
	a := lendingAPI(t)
	token := a.post(t, "/v1/borrow", anHour).str(t, "token")
	say := func(path, token, more string) answer {
		return a.post(t, path, fmt.Sprintf(`{"token":%q%s}`, token, more))
	}
	parts := strings.Split(token, ".")
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(body), "ann", "bob", 1))) + "." + parts[2]
	for _, path := range []string{"/v1/borrow/renew", "/v1/borrow/return"} {
		wantRefusal(t, say(path, forged, ""), 403, lease.Forbidden, "tampered")
		wantRefusal(t, say(path, "x.y.z", ""), 400, lease.Invalid)
		wantRefusal(t, say(path, "", ""), 400, lease.Invalid, "token is missing")
	}
	wantRefusal(t, say("/v1/borrow/renew", token, `,"term_ms":"90000000"`), 422, lease.BorrowTooLong, "24 hours")
	got := say("/v1/borrow/renew", token, `,"term_ms":"7200000"`)
	if got.status != 200 || got.str(t, "until") != fakeDay.Time().Add(2*time.Hour).Format(time.RFC3339) {
		t.Fatal(got.status, got.text)
	}
	if got := say("/v1/borrow/return", got.str(t, "token"), ""); got.status != 200 || got.str(t, "released", "feature") != "van" {
		t.Fatal(got.status, got.text)
	}
	wantRefusal(t, say("/v1/borrow/return", token, ""), 409, lease.Fenced)
}

func TestRefusalsOfBorrowing(t *testing.T) {
	a := lendingAPI(t)
	ask := func(body string) answer { return a.post(t, "/v1/borrow", body) }
	wantRefusal(t, ask(`{"feature":"cad","host":"ws1","term_ms":"1000"}`), 403, lease.BorrowOff, "cad")
	wantRefusal(t, ask(`{"feature":"van","host":"ws1","term_ms":"86400001"}`), 422, lease.BorrowTooLong, "24 hours")
	wantRefusal(t, ask(`{"feature":"van","host":"ws1"}`), 400, lease.Invalid, "term_ms")
	wantRefusal(t, ask(`{"feature":"van","term_ms":"3600000"}`), 400, lease.Invalid, "instance")
	ask(anHour)
	ask(anHour)
	wantRefusal(t, ask(anHour), 409, lease.BorrowNoneLeft, "van")
	for reason, number := range map[lease.Reason]int{lease.BorrowOff: -68, lease.BorrowNoneLeft: -67, lease.BorrowTooLong: -104} {
		if got := reason.FlexNetNumber(); got != number {
			t.Errorf("%s has FlexNet's number %d, want %d", reason, got, number)
		}
	}
}

func TestRevokedBorrowIsQuarantinedOrOverdrawn(t *testing.T) {
	a := lendingAPI(t)
	first, second := a.post(t, "/v1/borrow", anHour), a.post(t, "/v1/borrow", anHour)
	got := a.post(t, "/v1/borrow/revoke", fmt.Sprintf(`{"lease_id":%q}`, first.str(t, "lease", "id")))
	if got.status != 200 || got.str(t, "quarantined", "state") != "quarantined" {
		t.Fatal(got.status, got.text)
	}
	handle := fmt.Sprint(dig(second.body, "lease", "handle"))
	got = a.post(t, "/v1/borrow/revoke", `{"handle":`+handle+`,"now":true}`)
	if got.status != 200 || got.str(t, "released", "reason") != "removed_by_admin" || dig(got.body, "quarantined") != nil {
		t.Fatal(got.status, got.text)
	}
	wantRefusal(t, a.post(t, "/v1/borrow/revoke", `{"handle":`+handle+`,"now":true}`), 400, lease.Invalid)
	wantRefusal(t, a.post(t, "/v1/borrow/revoke", `{}`), 400, lease.Invalid, "which lease")
	got = a.get(t, "/v1/status")
	if !strings.Contains(fmt.Sprint(dig(got.body, "alarms")), "taken from their borrower") {
		t.Error("no alarm in", got.text)
	}
}

func TestRotatedKeySignsAndTheOldOneStaysPublished(t *testing.T) {
	a := lendingAPI(t)
	old := a.post(t, "/v1/borrow", anHour).str(t, "token")
	got := a.post(t, "/v1/borrow/keys/rotate", `{}`)
	if got.status != http.StatusOK {
		t.Fatal(got.status, got.text)
	}
	set, _ := a.jwks(t)
	fresh := a.post(t, "/v1/borrow", anHour).str(t, "token")
	for _, token := range []string{old, fresh} {
		if _, err := offline.Read(token, set); err != nil {
			t.Error(err)
		}
	}
	if len(set.Keys) != 2 || set.Keys[1].Kid != got.str(t, "kid") {
		t.Errorf("published: %+v", set)
	}
	list := a.get(t, "/v1/borrow/keys")
	if dig(list.body, "keys", 0, "signs") != false || dig(list.body, "keys", 1, "signs") != true {
		t.Error(list.text)
	}
}

// The private half of a key leaves the node in no answer.
func TestNoAnswerShowsThePrivateHalf(t *testing.T) {
	a := lendingAPI(t)
	a.post(t, "/v1/borrow", anHour)
	var seed [32]byte
	for _, cmd := range a.node.proposed {
		if c, ok := cmd.(lease.RotateBorrowKey); ok {
			seed = c.Seed
		}
	}
	if seed == [32]byte{} {
		t.Fatal("no key was made")
	}
	for _, path := range []string{"/.well-known/jwks.json", "/v1/borrow/keys", "/v1/status", "/v1/leases", "/metrics"} {
		text := a.get(t, path).text
		for _, enc := range []string{base64.RawURLEncoding.EncodeToString(seed[:]), base64.StdEncoding.EncodeToString(seed[:]), fmt.Sprintf("%x", seed), `"d"`} {
			if strings.Contains(text, enc) {
				t.Errorf("%s shows %s", path, enc)
			}
		}
	}
}
