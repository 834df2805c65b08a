//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/charmbracelet/x/exp/teatest/v2"
)

// A checkout shows, a kill takes it back, and the leader's death is seen, in one top.
func TestTopFollowsAClusterOverALeaderChange(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, seats("cad", 10, longProfile), seats("mesh", 2, longProfile))
	old := s.leader(t)
	top := openTop(t, &clusterTop{conn: s.conn})
	top.see("leader "+old.Name, "3 of 3 nodes answer", "nobody holds a seat")
	s.checkout(t, "cad", "ann", "ws1")
	s.checkout(t, "mesh", "kim", "ws2")
	top.see("ann", "kim", "1 of 10")

	old.kill()
	next := s.leader(t)
	top.see("leader "+next.Name, "2 of 3 nodes answer", "ann", "kim")

	top.Type("/kim")
	top.until("kim alone", func(string) error {
		if top.row("ann ") >= 0 {
			return errNotYet
		}
		return nil
	})
	top.Send(enterKey)
	top.Type("K")
	top.see("back from kim on ws2?")
	top.Type("y")
	top.see("taken back: mesh from kim on ws2")
	s.waitInUse(t, "mesh", 0)
	if n := s.inUse(t, "cad"); n != 1 {
		t.Errorf("%d seats of cad in use, want ann's", n)
	}
	top.Type("q")
	top.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}
