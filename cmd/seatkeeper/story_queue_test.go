//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// waitsFor is what the users of the story want, in the order they come.
var waitsFor = []struct {
	user  string
	seats int
}{{"u1", 1}, {"u2", 1}, {"u3", 2}, {"u4", 1}, {"u5", 1}}

// Five users wait for two seats, one of them for both; a job has two seats of something
// else booked. The leader is killed. The order is kept, the one who wants two is not
// starved, and the booking turns into leases.
func TestTheQueueAndABookingSurviveALeaderKill(t *testing.T) {
	t.Parallel()
	s := startStory(t, unshared("cad", 2, patientProfile), unshared("solver", 2, patientProfile))
	_, holder := s.sdk(t, "ann", nil, client.SessionConfig{})
	take(t, holder, "cad", 2)

	got := make(chan string, len(waitsFor))
	for i, w := range waitsFor {
		_, session := s.sdk(t, w.user, nil, client.SessionConfig{})
		go func() {
			_, err := session.CheckoutWait(t.Context(), 2*time.Minute, client.Item{Feature: "cad", Count: w.seats})
			if err != nil {
				got <- fmt.Sprint(w.user, ": ", err)
				return
			}
			got <- w.user
			_ = session.Close(t.Context())
		}()
		eventually(t, w.user+" stands in the queue", func() error { return s.inLine(i + 1) })
	}
	if code, out, text := s.cli(t, "booking", "create", "job-1", "solver", "-n", "2", "--for", "5m", "--user", "zoe"); code != 0 {
		t.Fatal(code, out, text)
	}
	if code, _, text := s.cli(t, "checkout", "solver"); code != exitNoSeat || !strings.Contains(text, "2 booked") {
		t.Errorf("beside the booking: exit %d, %s", code, text)
	}

	old := s.leader(t)
	old.kill()
	eventually(t, "another leader serves the same queue", func() error { return s.inLine(len(waitsFor)) })
	if code, _, text := s.cli(t, "checkout", "solver"); code != exitNoSeat {
		t.Errorf("beside the booking, after the kill: exit %d, %s", code, text)
	}
	code, out, text := s.cli(t, "run", "solver", "-n", "2", "--user", "zoe", "--booking", "job-1", "--", "sh", "-c", "echo $SEATKEEPER_LEASE_ID")
	if code != 0 || strings.TrimSpace(out) == "" {
		t.Errorf("the job: exit %d, %q %s", code, out, text)
	}

	if err := holder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var order []string
	for range waitsFor {
		select {
		case user := <-got:
			order = append(order, user)
		case <-time.After(90 * time.Second):
			t.Fatalf("after %v nobody gets a seat", order)
		}
	}
	slices.Sort(order[:2]) // two seats came free together
	slices.Sort(order[3:])
	if want := []string{"u1", "u2", "u3", "u4", "u5"}; !slices.Equal(order, want) {
		t.Errorf("served in the order %v, want %v", order, want)
	}
	s.waitInUse(t, "cad", 0)
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	s.allAgree(t)
}

// inLine wants the first n users of the story in the queue, in order.
func (s *story) inLine(n int) error {
	code, out, text := s.cli(s.t, "queue", "cad", "-o", "json")
	if code != 0 {
		return fmt.Errorf("exit %d: %s", code, text)
	}
	var answer struct {
		Places []struct {
			User     string
			Position int
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return err
	}
	if len(answer.Places) != n {
		return fmt.Errorf("%d wait, want %d", len(answer.Places), n)
	}
	for i, p := range answer.Places {
		if p.User != waitsFor[i].user || p.Position != i+1 {
			return fmt.Errorf("place %d is %+v, want %s", i+1, p, waitsFor[i].user)
		}
	}
	return nil
}
