//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Somebody asks for hundreds of tenants that nobody has licensed, each time as somebody else.
// A real tenant goes on without a refusal, and operators see who is who.
func TestInventedNamesDoNotSlowARealTenant(t *testing.T) {
	inFull(t)
	s := startStory(t, seats("cad", 100, longProfile))
	document := sampleLicence("lic-umbra", s.vendor.Name, []sampleFeature{seats("mesh", 3, longProfile)}, time.Now().AddDate(0, 0, -1))
	umbra := strings.Replace(string(document), "tenant: "+lease.DefaultTenant, "tenant: umbra", 1)
	s.apply(t, s.signed(t, write(t, "umbra.txt", umbra)))
	leader := s.leader(t)

	stop := s.quiet(t)
	const askers, each = 48, 60
	var answered, turnedAway atomic.Int64
	var g errgroup.Group
	for i := range askers {
		g.Go(func() error {
			c, err := dialCluster(Client{Addr: leader.API}, callTimeout)
			if err != nil {
				return err
			}
			defer c.Close()
			for n := range each {
				_, err := c.seats.Preview(t.Context(), &pb.PreviewRequest{Feature: "cad", Tenant: fmt.Sprintf("invented-%d-%d", i, n), User: fmt.Sprint("u", n)})
				if client.ReasonOf(err) == lease.Overloaded {
					turnedAway.Add(1)
					continue
				}
				id := fmt.Sprintf("%08x%08x%016x", i+1, n+1, 1)
				_, err = c.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", Tenant: fmt.Sprintf("invented-%d-%d", i, n), SessionId: id, SessionSecret: "s", Seq: 1})
				switch client.ReasonOf(err) {
				case lease.NoFeature:
					answered.Add(1)
				case lease.Overloaded, client.NotLeader, client.Unreachable, client.UnknownOutcome:
					turnedAway.Add(1) // a busy machine changes its leader
				default:
					return fmt.Errorf("a checkout for an invented tenant: %w", err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	cycles, slowest := stop() // it fails the test itself when it is refused
	t.Logf("strangers: %d answered, %d turned away; the quiet client made %d rounds, the slowest took %s", answered.Load(), turnedAway.Load(), cycles, slowest)
	if answered.Load() == 0 || cycles == 0 {
		t.Error("nobody was served")
	}

	code, out, stderr := s.cli(t, "tenant", "list", "-o", "json")
	var list struct {
		Tenants []struct {
			Name  string
			Known bool
			Seats int
		}
		Strangers struct {
			Tenants, Sessions int
		}
	}
	if err := json.Unmarshal([]byte(out), &list); code != exitOK || err != nil {
		t.Fatalf("%d %s%s", code, out, stderr)
	}
	if len(list.Tenants) != 2 || list.Tenants[0].Name != lease.DefaultTenant || list.Tenants[1].Name != "umbra" || !list.Tenants[1].Known || list.Tenants[1].Seats != 3 {
		t.Errorf("tenants: %s", out)
	}
	if n := int(answered.Load()); list.Strangers.Tenants < n || list.Strangers.Sessions < n {
		t.Errorf("%d invented tenants were answered: %s", n, out)
	}
	_, out, _ = s.cli(t, "tenant", "list")
	for _, want := range []string{"TENANT", "umbra", "strangers: ", "all strangers together 8"} {
		if !strings.Contains(out, want) {
			t.Errorf("tenant list does not say %q:\n%s", want, out)
		}
	}
	if code, out, _ = s.cli(t, "tenant", "show", "umbra"); code != exitOK || !strings.Contains(out, "tenant umbra: 0 of 3 seats in use") || !strings.Contains(out, "lic-umbra") {
		t.Errorf("tenant show: %d\n%s", code, out)
	}
	if code, _, stderr = s.cli(t, "tenant", "show", "nobody"); code != exitError1 || !strings.Contains(stderr, "seatkeeper tenant list") {
		t.Errorf("tenant show of nobody: %d %s", code, stderr)
	}
}
