//go:build linux

package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// The reconnect defect of other servers: a client whose path died without a word comes
// back from a new port, and the server, to which the old connection still stands,
// counts it twice. Each pool here has room for that, so that it would be seen.
func TestReconnectTakesNoSecondSeat(t *testing.T) {
	counts := map[string]int{"one": 1, "five": 5}
	parts := map[string]func(*testing.T, *story, string, int){
		"sdk": sdkReconnects, "curl": curlReconnects, "sdk-unheard": sdkUnheard, "curl-unheard": curlUnheard,
	}
	features := []sampleFeature{unshared("gone", 2, storyProfile), unshared("gone-sdk", 2, storyProfile), unshared("gone-election", 2, storyProfile)}
	for part := range parts {
		for name, n := range counts {
			features = append(features, unshared(part+"-"+name, 4*n, patientProfile))
		}
	}
	s := startStory(t, features...)
	stop := s.mostInUse(t)
	run := map[string]func(*testing.T){
		"never back":     func(t *testing.T) { neverBack(t, s, "gone", nil) },
		"sdk never back": func(t *testing.T) { sdkNeverBack(t, s) },
	}
	for part, story := range parts {
		for name, n := range counts {
			run[part+"-"+name] = func(t *testing.T) { story(t, s, part+"-"+name, n) }
		}
	}
	together(t, run)
	most := stop()
	for part := range parts {
		for name, n := range counts {
			if got := most[part+"-"+name]; got != int32(n) {
				t.Errorf("%s: up to %d seats were in use, want never more than %d, and %d at some time", part+"-"+name, got, n, n)
			}
		}
	}
	t.Run("never back, and the leader dies", func(t *testing.T) {
		neverBack(t, s, "gone-election", func() { s.leader(t).kill() })
	})
}

// sdkReconnects: the application asks again for what it holds, once while the path is
// dead and once when it is back.
func sdkReconnects(t *testing.T, s *story, feature string, count int) {
	w := newWire(t, s)
	c, session := s.sdk(t, feature, w.dial, client.SessionConfig{})
	first := take(t, session, feature, count)

	if n := w.pull(); n == 0 {
		t.Fatal("no connection was there to cut")
	}
	meanwhile := make(chan error, 1)
	go func() {
		again, err := session.Checkout(t.Context(), client.Item{Feature: feature, Count: count})
		if err == nil && again[0].Ref() != first.Ref() {
			err = fmt.Errorf("asked during the cut: lease %v, want %v", again[0].Ref(), first.Ref())
		}
		meanwhile <- err
	}()
	elapse(t, storyHeartbeat*3/2)
	before := w.plug()
	if again := take(t, session, feature, count); again.Ref() != first.Ref() {
		t.Errorf("lease %v, want %v", again.Ref(), first.Ref())
	}
	if err := <-meanwhile; err != nil {
		t.Error(err)
	}
	if len(w.newPorts(before)) == 0 {
		t.Error("it did not come back from a new port")
	}
	if !first.Valid() {
		t.Errorf("the lease was lost: %s", first.Reason())
	}
	if got := s.inUse(t, feature); got != int32(count) {
		t.Errorf("%d seats in use, want %d", got, count)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.inUse(t, feature); got != 0 {
		t.Errorf("after exit %d seats are in use", got)
	}
}

// curlReconnects: the same by plain HTTP, with the session's id and secret.
func curlReconnects(t *testing.T, s *story, feature string, count int) {
	w := newWire(t, s)
	web := s.newWeb(t, feature, w.dial)
	first := web.checkout(t, feature, count)
	if n := w.pull(); n == 0 {
		t.Fatal("no connection was there to cut")
	}
	elapse(t, storyHeartbeat*3/2)
	before := w.plug()
	web.reconnect(t, w.dial)
	for range 2 { // numbered anew each time
		if again := web.checkout(t, feature, count); again.Id != first.Id || again.FencingToken != first.FencingToken {
			t.Errorf("lease %d token %d, want %d token %d", again.Id, again.FencingToken, first.Id, first.FencingToken)
		}
	}
	if len(w.newPorts(before)) == 0 {
		t.Error("it did not come back from a new port")
	}
	if got, r := web.renew(t); r != nil || len(got.Leases) != 1 || got.Leases[0].Id != first.Id {
		t.Errorf("renew answers %v %+v", got, r)
	}
	if got := s.inUse(t, feature); got != int32(count) {
		t.Errorf("%d seats in use, want %d", got, count)
	}
	if got, r := web.checkin(t); r != nil || len(got.Released) != 1 {
		t.Errorf("checkin answers %v %+v", got, r)
	}
	if got := s.inUse(t, feature); got != 0 {
		t.Errorf("after exit %d seats are in use", got)
	}
}

// sdkUnheard: the checkout arrives, its answer does not.
func sdkUnheard(t *testing.T, s *story, feature string, count int) {
	w := newWire(t, s)
	c, session := s.sdk(t, feature, w.dial, client.SessionConfig{})
	if _, err := c.Status(t.Context(), false); err != nil { // connects to the leader
		t.Fatal(err)
	}
	w.muffle()
	got := make(chan error, 1)
	go func() {
		leases, err := session.Checkout(t.Context(), client.Item{Feature: feature, Count: count})
		if err == nil && (!leases[0].Valid() || leases[0].Count() != count) {
			err = fmt.Errorf("%d seats, %s", leases[0].Count(), leases[0].State())
		}
		got <- err
	}()
	s.waitInUse(t, feature, int32(count))
	w.plug()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if n := s.inUse(t, feature); n != int32(count) {
		t.Errorf("%d seats in use, want %d", n, count)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.inUse(t, feature); n != 0 {
		t.Errorf("after exit %d seats are in use", n)
	}
}

// curlUnheard: the same request with the same seq is answered as the first would have.
func curlUnheard(t *testing.T, s *story, feature string, count int) {
	w := newWire(t, s)
	web := s.newWeb(t, feature, w.dial)
	request := web.checkoutRequest(&pb.Item{Feature: feature, Count: int32(count)})
	w.muffle()
	body, err := protojson.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	leader := s.leader(t).API // a follower's redirect would not be heard either
	ctx, hangUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := post(ctx, web.http, leader, "/v1/checkout", string(body), &pb.CheckoutResponse{})
		ended <- err
	}()
	s.waitInUse(t, feature, int32(count))
	hangUp()
	if err := <-ended; err == nil {
		t.Fatal("the answer was heard")
	}
	w.plug()
	web.reconnect(t, w.dial)
	var answer pb.CheckoutResponse
	if r := web.do(t, "/v1/checkout", request, &answer); r != nil {
		t.Fatalf("%+v", r)
	}
	if !answer.Replayed || len(answer.Leases) != 1 || answer.Leases[0].Count != int32(count) || answer.Leases[0].RemainingMs == 0 {
		t.Errorf("the same request again is answered %v", &answer)
	}
	if n := s.inUse(t, feature); n != int32(count) {
		t.Errorf("%d seats in use, want %d", n, count)
	}
	if _, r := web.checkin(t); r != nil {
		t.Errorf("checkin: %+v", r)
	}
	if n := s.inUse(t, feature); n != 0 {
		t.Errorf("after exit %d seats are in use", n)
	}
}

// neverBack: the seat of a client that vanished is free within the promised bound, and
// not before its grace is over. meanwhile happens while it is charged.
func neverBack(t *testing.T, s *story, feature string, meanwhile func()) {
	web, term := s.newWeb(t, feature, nil), s.status(t).Term
	sent := time.Now()
	web.checkout(t, feature, 2)
	answered := time.Now()
	if meanwhile != nil {
		meanwhile()
	}
	s.waitInUse(t, feature, 0)
	free := time.Now()
	if early := sent.Add(storyLifespan + storyGrace); free.Before(early) {
		t.Errorf("free after %s, before lifespan and grace were over", free.Sub(sent))
	}
	bound := reclaimedWithin(storyProfile, s.status(t).Term-term)
	t.Logf("free %s after its last heartbeat (bound %s)", free.Sub(answered), bound)
	if free.After(answered.Add(bound)) {
		t.Errorf("free only %s after its last heartbeat, want within %s", free.Sub(answered), bound)
	}
}

// sdkNeverBack: a client cut off for good stops believing before its seat is free.
func sdkNeverBack(t *testing.T, s *story) {
	const feature = "gone-sdk"
	w := newWire(t, s)
	_, session := s.sdk(t, feature, w.dial, client.SessionConfig{})
	term := s.status(t).Term
	held := take(t, session, feature, 2)
	lost := held.Lost()
	w.pull()
	cut := time.Now()
	s.waitInUse(t, feature, 0)
	free := time.Now()
	if held.Valid() {
		t.Error("the seat is free and its holder still believes in it")
	}
	select {
	case <-lost:
	default:
		t.Error("the holder was not told")
	}
	if held.Reason() != lease.Reason(lease.ReleasedMissedHeartbeat.String()) {
		t.Errorf("reason %q", held.Reason())
	}
	if bound := reclaimedWithin(storyProfile, s.status(t).Term-term); free.After(cut.Add(bound)) {
		t.Errorf("free only %s after the cut, want within %s", free.Sub(cut), bound)
	}
}
