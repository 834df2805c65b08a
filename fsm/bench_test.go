package fsm_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// crowded is a node with n live leases, one a session.
func crowded(b *testing.B, n int) *node {
	e := licence().Entitlements[1]
	e.Count = lease.MaxCount
	more := e // one entitlement cannot count more
	more.Serial = "more"
	x := newNode(b, e, more)
	for i := 0; i < n; i += fsm.MaxBatch {
		var batch []lease.Command
		for j := i; j < min(n, i+fsm.MaxBatch); j++ {
			c := take(j, e.Feature)
			c.Session = sessionOf(j)
			c.Session.Seq = 1
			c.Principal = lease.Principal{User: fmt.Sprint("user", j), Host: fmt.Sprint("ws", j)}
			batch = append(batch, c)
		}
		x.apply(batch...)
	}
	return x
}

// sessionOf tells a million sessions apart.
func sessionOf(n int) lease.SessionRef {
	s := session(n, 0)
	s.ID[3] = byte(n >> 16)
	return s
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

// live is how many leases are there; -live 1000000 takes a minute to set up.
var live = flag.Int("live", 100_000, "live leases in the benchmarks")

// part is the checkouts of a cycle, or its check-ins.
func part[T lease.Command]() (batch []lease.Command) {
	for _, c := range cycle() {
		if _, is := c.(T); is {
			batch = append(batch, c)
		}
	}
	return batch
}

// renewals are of sessions all over the memory.
func renewals() (batch []lease.Command) {
	for i := range fsm.MaxBatch {
		batch = append(batch, lease.Renew{Session: sessionOf(i * 7919 % *live)})
	}
	return batch
}

func BenchmarkApply(b *testing.B) {
	n := crowded(b, *live)
	run := func(b *testing.B, data []byte) {
		n.index++
		if o := n.f.Apply(&raft.Log{Index: n.index, Term: 1, Data: data}).(fsm.Outcome); o.Stale || o.Replies[0].Refusal != nil {
			b.Fatal(o.Replies[0].Refusal)
		}
	}
	in, out := part[lease.Checkout](), part[lease.CheckIn]()
	for _, x := range []struct {
		name                  string
		before, batch, behind []lease.Command
	}{
		{"cycle", nil, cycle(), nil},
		{"renew", nil, renewals(), nil},
		{"checkout", nil, in, out},
		{"checkin", in, out, nil},
	} {
		b.Run(x.name, func(b *testing.B) {
			before, data, behind := encoded(b, x.before), encoded(b, x.batch), encoded(b, x.behind)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				if before != nil {
					run(b, before)
				}
				b.StartTimer()
				run(b, data)
				b.StopTimer()
				if behind != nil {
					run(b, behind)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*len(x.batch))/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// How much longer an entry with one checkout of a new session takes among -live leases
// than among 1,000: medians of both, measured in turn.
func BenchmarkGrowth(b *testing.B) {
	nodes := []*node{crowded(b, 1_000), crowded(b, *live)}
	took := make([][]time.Duration, len(nodes))
	for i := 0; b.Loop(); i++ {
		in := lease.Checkout{Session: sessionOf(*live + i), Principal: lease.Principal{User: fmt.Sprint("new", i), Host: "ws"},
			Items: []lease.Item{{Feature: "solver", Count: 1}}, Ephemeral: true}
		enter, leave := encoded(b, []lease.Command{in}), encoded(b, []lease.Command{lease.CheckIn{Session: in.Session, Close: true}})
		for k, n := range nodes {
			l := &raft.Log{Index: n.index + 1, Term: 1, Data: enter}
			start := time.Now()
			o := n.f.Apply(l).(fsm.Outcome)
			took[k] = append(took[k], time.Since(start))
			n.index++
			if o.Replies[0].Refusal != nil {
				b.Fatal(o.Replies[0].Refusal)
			}
			n.log(leave, nil)
		}
	}
	for k := range took {
		slices.Sort(took[k])
	}
	b.ReportMetric(float64(took[1][b.N/2])/float64(took[0][b.N/2]), "x-median")
}

func encoded(b *testing.B, batch []lease.Command) []byte {
	if batch == nil {
		return nil
	}
	data, err := fsm.EncodeBatch(1, 0, launch, batch)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// All leases fall due together, and are reclaimed in entries as the leader proposes them.
// What others wait for is the longest that one entry, or one look at what is due, takes.
func BenchmarkExpireTogether(b *testing.B) {
	const together, entry = 100_000, fsm.MaxBatch / 2
	b.ReportAllocs()
	var entries, looks []time.Duration
	for b.Loop() {
		b.StopTimer()
		n := crowded(b, *live)
		at := func(t time.Duration, batch ...lease.Command) fsm.Outcome {
			return n.log(fsm.EncodeBatch(1, lease.Time(t), launch, batch))
		}
		at(25*time.Second, lease.Tick{})
		for i := together; i < *live; i += fsm.MaxBatch { // these will only look due
			var batch []lease.Command
			for j := i; j < min(*live, i+fsm.MaxBatch); j++ {
				batch = append(batch, lease.Renew{Session: sessionOf(j)})
			}
			at(25*time.Second, batch...)
		}
		at(61*time.Second, lease.Tick{})
		runtime.GC()
		b.StartTimer()
		for reclaimed := 0; reclaimed < min(together, *live); {
			start := time.Now()
			batch := n.f.Due(entry)
			looks = append(looks, time.Since(start))
			if len(batch) == 0 {
				b.Fatalf("%d reclaimed", reclaimed)
			}
			start = time.Now()
			reclaimed += len(at(61*time.Second, batch...).Replies)
			entries = append(entries, time.Since(start))
		}
	}
	for name, list := range map[string][]time.Duration{"entry": entries, "look": looks} {
		slices.Sort(list)
		b.ReportMetric(list[len(list)*99/100].Seconds()*1000, "ms/p99-"+name)
		b.ReportMetric(list[len(list)-1].Seconds()*1000, "ms/longest-"+name)
	}
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

func BenchmarkDecodeBatch(b *testing.B) {
	data := encoded(b, cycle())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fsm.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

// How long applies wait for a snapshot: until the view is taken, and how much longer the
// first entry takes after it, which copies what it writes to.
func BenchmarkSnapshotStall(b *testing.B) {
	n := crowded(b, *live)
	data := encoded(b, renewals())
	run := func() time.Duration {
		n.index++
		start := time.Now()
		n.f.Apply(&raft.Log{Index: n.index, Term: 1, Data: data})
		return time.Since(start)
	}
	var view, first, usual time.Duration
	for b.Loop() {
		usual += run()
		start := time.Now()
		snap, err := n.f.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		view += time.Since(start)
		first += run()
		snap.Release()
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(ms(view), "ms/view")
	b.ReportMetric(ms(first-usual), "ms/copying")
	b.ReportMetric(ms(usual), "ms/entry")
}

func BenchmarkSnapshotWrite(b *testing.B) {
	n := crowded(b, *live)
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
	snap := bytesOf(b, crowded(b, *live).f)
	b.SetBytes(int64(len(snap)))
	b.ReportAllocs()
	for b.Loop() {
		if err := fsm.New(fsm.Options{}).Restore(io.NopCloser(bytes.NewReader(snap))); err != nil {
			b.Fatal(err)
		}
	}
}
