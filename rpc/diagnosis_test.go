package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// bookedLog is a log with a LogBook, and what it writes by itself.
func bookedLog(level hclog.Level) (hclog.InterceptLogger, *LogBook, *bytes.Buffer) {
	var out bytes.Buffer
	log := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "test", Level: level, Output: &out})
	book := NewLogBook(level)
	log.RegisterSink(book)
	return log, book, &out
}

// lineNext is the next line of a stream.
func lineNext(t *testing.T, s grpc.ServerStreamingClient[pb.MonitorResponse]) string {
	t.Helper()
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m.GetLine()
}

func TestMonitorShowsThePastAndWhatComes(t *testing.T) {
	log, book, out := bookedLog(hclog.Info)
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Diagnosis.Log = book })
	for i := range 5 {
		log.Named("sub").Info("before", "n", i)
	}
	log.Debug("never kept")
	stream, err := pb.NewDiagnosisClient(a.dial(t)).Monitor(t.Context(), &pb.MonitorRequest{Level: "debug", Recent: 2, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"test.sub: before: n=3", "n=4"} {
		if got := lineNext(t, stream); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	log.Debug("deeper", "n", 1)
	log.Trace("too deep")
	log.Warn("plain")
	for _, want := range []string{"[DEBUG] test: deeper: n=1", "[WARN]  test: plain"} {
		if got := lineNext(t, stream); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	if strings.Contains(out.String(), "deeper") {
		t.Error("a reader changes what the log file has")
	}
	if kept, _, _ := book.recent(hclog.Trace, logLines, false); strings.Contains(strings.Join(kept, ""), "deeper") {
		t.Error("a reader changes what is kept for others")
	}
	// Each reader has the level that it asked for, whatever others want.
	calm, err := pb.NewDiagnosisClient(a.dial(t)).Monitor(t.Context(), &pb.MonitorRequest{Level: "warn", Recent: 1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := lineNext(t, calm); !strings.Contains(got, "plain") {
		t.Errorf("the newest line of its level is %q", got)
	}
	log.Debug("for the other")
	log.Warn("for both")
	if got := lineNext(t, calm); !strings.Contains(got, "for both") {
		t.Errorf("who asked for warnings gets %q", got)
	}
	if stream, err = pb.NewDiagnosisClient(a.dial(t)).Monitor(t.Context(), &pb.MonitorRequest{Level: "loud"}); err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); err == nil || !strings.Contains(err.Error(), "want trace") {
		t.Errorf("a level that is none: %v", err)
	}
}

// A log quotes what strangers sent: neither that nor a line that is cut ends a reader.
func TestMonitorSendsLinesThatAreNoText(t *testing.T) {
	log, book, _ := bookedLog(hclog.Info)
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Diagnosis.Log = book })
	log.Info("noise \xff\xfe here")
	log.Info(strings.Repeat("ü", logLineBytes))
	log.Info("x" + strings.Repeat("ü", logLineBytes)) // cut within a letter in one of the two
	log.Info("after")
	stream, err := pb.NewDiagnosisClient(a.dial(t)).Monitor(t.Context(), &pb.MonitorRequest{Recent: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"noise \uFFFD here", "üü", "xüü", "after"} {
		if got := lineNext(t, stream); !strings.Contains(got, want) {
			t.Errorf("got %.80q, want %q in it", got, want)
		}
	}
}

func TestSlowReaderOfTheLogIsCutAndToldWhatItMissed(t *testing.T) {
	log, book, _ := bookedLog(hclog.Info)
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Diagnosis.Log = book })
	// Small windows, so that the connection takes little of what is not read.
	cc, err := grpc.NewClient("passthrough:///"+a.addr, grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	stream, err := pb.NewDiagnosisClient(cc).Monitor(t.Context(), &pb.MonitorRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	watching := func() int {
		book.mu.Lock()
		defer book.mu.Unlock()
		return len(book.watchers)
	}
	eventually(t, "the reader to be there", func() bool { return watching() == 1 })
	start, lines := time.Now(), 20*logQueue
	for i := range lines {
		log.Info("line", "n", i, "pad", strings.Repeat("x", 1000))
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("logging took %s: it waited for the reader", took)
	}
	got, said := 0, uint64(0)
	for {
		m, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "too slow") {
				t.Errorf("the stream ends with %v", err)
			}
			break
		}
		if m.GetDropped() > 0 {
			said = m.GetDropped()
			if !strings.Contains(m.GetLine(), fmt.Sprint(said, " lines were dropped")) {
				t.Errorf("last line %q", m.GetLine())
			}
			continue
		}
		if !strings.Contains(m.GetLine(), fmt.Sprintf("n=%d ", got)) {
			t.Fatalf("line %d is %.80q: there is a hole", got, m.GetLine())
		}
		got++
	}
	if said == 0 || got+int(said) != lines {
		t.Errorf("%d lines came and %d were said to be dropped, of %d", got, said, lines)
	}
	eventually(t, "the reader to be gone", func() bool { return watching() == 0 })
}

func TestReadersOfTheLogAreBoundedAndSoIsWhatIsKept(t *testing.T) {
	log, book, _ := bookedLog(hclog.Info)
	for range logWatchers {
		if _, w, full := book.recent(hclog.Info, 0, true); full || w == nil {
			t.Fatal("refused too early")
		}
	}
	if _, _, full := book.recent(hclog.Info, 0, true); !full {
		t.Error("one too many is let in")
	}
	if _, _, full := book.recent(hclog.Info, 10, false); full {
		t.Error("the past can be read by any number")
	}
	for i := range 3 * logBytes / logLineBytes {
		log.Info(strings.Repeat("y", 2*logLineBytes), "n", i)
	}
	lines, _, _ := book.recent(hclog.Info, logLines, false)
	if total := len(strings.Join(lines, "")); total > logBytes || total < logBytes/2 || len(lines[0]) > logLineBytes {
		t.Errorf("%d lines of %d bytes are kept, the first of %d", len(lines), total, len(lines[0]))
	}
}

func TestCollectSendsProfilesAndRefusesTheRest(t *testing.T) {
	a := startAPI(t, newFakeNode(t), func(c *Config) {
		c.Diagnosis.Settings = func() []Setting { return []Setting{{Key: "name", Value: "n1", Source: "default"}} }
	})
	client := pb.NewDiagnosisClient(a.dial(t))
	collect := func(part string, seconds uint32) (string, error) {
		stream, err := client.Collect(t.Context(), &pb.CollectRequest{Part: part, Seconds: seconds})
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return all.String(), nil
			}
			if err != nil {
				return all.String(), err
			}
			all.Write(m.GetData())
		}
	}
	for part, want := range map[string]string{"goroutines": "goroutine profile: total", "heap": "\x1f\x8b", "cpu": "\x1f\x8b",
		"metrics": "seatkeeper_rpc_connections", "settings": `"key":"name"`} {
		if got, err := collect(part, 1); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, %.100q", part, err, got)
		}
	}
	for part, seconds := range map[string]uint32{"cmdline": 1, "": 1, "cpu": maxCollectSeconds + 1} {
		if _, err := collect(part, seconds); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q for %d s: %v", part, seconds, err)
		}
	}
	if got := a.get(t, "/debug/pprof/heap"); got.status != 200 || !strings.HasPrefix(got.text, "\x1f\x8b") {
		t.Errorf("heap by HTTP: %d", got.status)
	}
	if got := a.get(t, "/debug/pprof/cmdline"); got.status != 404 {
		t.Errorf("command line by HTTP: %d", got.status)
	}
}

func TestProfilesAskForAnOperator(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	node.give(t, access.Token{Role: access.Admin})
	for role, want := range map[access.Role]int{access.Viewer: 403, access.Client: 403, access.Operator: 200, access.Admin: 200} {
		token := node.give(t, access.Token{Role: role})
		if got := a.call(t, "GET", "/debug/pprof/goroutine", "", "Authorization", "Bearer "+token); got.status != want {
			t.Errorf("%s: %d, want %d", role, got.status, want)
		}
	}
	if got := a.get(t, "/debug/pprof/goroutine"); got.status != 401 {
		t.Errorf("no token: %d, want 401", got.status)
	}
}

func TestRealNodesExamineEachOther(t *testing.T) {
	_, verifier, err := license.GenerateKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	addresses := startCluster(t, verifier)
	client := func(address string) pb.DiagnosisClient {
		cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		return pb.NewDiagnosisClient(cc)
	}
	first := client(addresses[0])
	eventually(t, "a cluster whose nodes all reach each other", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		x, err := first.Examine(ctx, &pb.ExamineRequest{Probe: true})
		if err != nil || x.GetClusterId() == "" || len(x.GetRaftState().GetMembers()) != 3 || len(x.GetProbes()) != 8 {
			return false
		}
		for _, p := range x.GetProbes() {
			if p.GetError() != "" || p.GetPort() == "api" && (p.GetAnsweredId() != p.GetId() || p.GetClusterId() != x.GetClusterId()) {
				return false
			}
		}
		return x.GetDisk().GetFsyncs() > 0 && x.GetDisk().GetError() == "" && x.GetRaftState().GetLeader() != ""
	})
	c1, err := first.Clock(t.Context(), &pb.ClockRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c2, err := first.Clock(t.Context(), &pb.ClockRequest{})
	if err != nil || c2.GetMonoNs() <= c1.GetMonoNs() || time.Since(time.Unix(0, c2.GetWallNs())).Abs() > time.Minute {
		t.Errorf("clocks %v, then %v: %v", c1, c2, err)
	}
}

// A node tells an operator which tokens end soon, or have just ended, and nothing that opens a door.
func TestExamineTellsOfTokensThatEnd(t *testing.T) {
	now := time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)
	node := newFakeNode(t)
	in := func(d time.Duration) lease.Calendar { return lease.CalendarOf(now.Add(d)) }
	const day = 24 * time.Hour
	for _, left := range []time.Duration{0, 400 * day, 31 * day, 29 * day, 2 * day, -day, -8 * day} {
		x := access.Token{Role: access.Client, Description: "the build farm's", User: "ann", Expires: in(left)}
		if left == 0 {
			x = access.Token{Role: access.Admin} // for ever
		}
		node.give(t, x)
	}
	table, _ := node.Access()
	var got []string
	for _, x := range tokensEnding(table, lease.CalendarOf(now)) {
		got = append(got, x.Role+" "+x.Expires)
		if text := x.String(); len(x.Id) != 2*access.IDBytes || strings.Contains(text, "farm") || strings.Contains(text, "ann") {
			t.Errorf("it tells %s", text)
		}
	}
	if want := []string{"client 2030-05-31T00:00:00Z", "client 2030-06-03T00:00:00Z", "client 2030-06-30T00:00:00Z"}; !slices.Equal(got, want) {
		t.Errorf("tokens that end: %v, want %v", got, want)
	}
	for range 2 * maxTokenEnds {
		node.give(t, access.Token{Role: access.Viewer, Expires: in(day)})
	}
	table, _ = node.Access()
	if n := len(tokensEnding(table, lease.CalendarOf(now))); n != maxTokenEnds {
		t.Errorf("%d are told of, want at most %d", n, maxTokenEnds)
	}
	if tokensEnding(nil, 0) != nil {
		t.Error("a cluster without tokens has some that end")
	}
}
