package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestALostPeerDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newLogger(Log{Level: "info", Format: "text"}, &out)
		lost, other := raft.Server{ID: "n1-1", Address: "127.0.0.1:1"}, raft.Server{ID: "n2-2", Address: "127.0.0.1:2"}
		for range 100 { // ten seconds, ten times a second
			log.Error("failed to appendEntries to", "peer", lost, "error", "connection refused")
			log.Error("failed to make requestVote RPC", "target", lost, "error", "connection refused", "term", time.Now().UnixNano())
			log.Error("giving up", "reason", "no reason")
			time.Sleep(repeatEvery / 100)
		}
		log.Error("failed to appendEntries to", "peer", lost, "error", "connection refused")
		log.Error("failed to appendEntries to", "peer", other, "error", "connection refused")
		for line, want := range map[string]int{"appendEntries to: peer=\"{Voter n1-1": 2, "appendEntries to: peer=\"{Voter n2-2": 1, "requestVote": 1, "giving up": 100} {
			if got := strings.Count(out.String(), line); got != want {
				t.Errorf("%q is there %d times, want %d", line, got, want)
			}
		}
	})
}
