package fsm_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// crowded is a node with n live leases, one a session.
func crowded(b *testing.B, n int) *node {
	e := licence().Entitlements[1]
	e.Count = lease.MaxCount
	x := newNode(b, e)
	for i := 0; i < n; i += fsm.MaxBatch {
		var batch []lease.Command
		for j := i; j < min(n, i+fsm.MaxBatch); j++ {
			c := take(j, e.Feature)
			c.Session.ID[3] = byte(j >> 16)
			batch = append(batch, c)
		}
		x.apply(batch...)
	}
	return x
}

// cycle is one full batch: half checkouts, half check-ins.
func cycle() (batch []lease.Command) {
	for i := range fsm.MaxBatch / 2 {
		s := session(i, 0)
		s.ID[4] = 1
		batch = append(batch, lease.Checkout{Session: s, Principal: lease.Principal{User: "ann", Host: "ws"}, Items: []lease.Item{{Feature: "solver", Count: 1}}}, lease.CheckIn{Session: s, Close: true})
	}
	for i := range batch {
		if c, ok := batch[i].(lease.Checkout); ok {
			c.Ephemeral = true
			batch[i] = c
		}
	}
	return batch
}

func BenchmarkApplyBatch(b *testing.B) {
	n := crowded(b, 100_000)
	data, err := fsm.EncodeBatch(1, 0, launch, cycle())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n.index++
		if o := n.f.Apply(&raft.Log{Index: n.index, Term: 1, Data: data}).(fsm.Outcome); o.Stale || o.Replies[0].Refusal != nil {
			b.Fatal(o.Replies[0].Refusal)
		}
	}
	b.ReportMetric(float64(b.N)*fsm.MaxBatch/b.Elapsed().Seconds(), "commands/s")
}

func BenchmarkEncodeBatch(b *testing.B) {
	batch := cycle()
	b.ReportAllocs()
	for b.Loop() {
		data, err := fsm.EncodeBatch(1, 0, launch, batch)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data)), "B/entry")
	}
}

func BenchmarkSnapshotWrite(b *testing.B) {
	n := crowded(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		size, err := n.f.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
	}
}

func BenchmarkSnapshotRestore(b *testing.B) {
	snap := bytesOf(b, crowded(b, 100_000).f)
	b.SetBytes(int64(len(snap)))
	b.ReportAllocs()
	for b.Loop() {
		if err := fsm.New(fsm.Options{}).Restore(io.NopCloser(bytes.NewReader(snap))); err != nil {
			b.Fatal(err)
		}
	}
}
