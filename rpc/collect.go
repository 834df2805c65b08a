package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/grpc"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Limits of what is sent of a node's inside.
const (
	// maxCollects are sent at once: a profile slows the node that makes it.
	maxCollects = 2
	// maxCollectSeconds is the longest CPU profile.
	maxCollectSeconds = 60
	// maxCollected bounds one part.
	maxCollected = 16 << 20
	// collectChunk is the size of one message.
	collectChunk = 64 << 10
)

// profiles are the parts that are profiles of the Go runtime, and how each is written:
// 0 is for go tool pprof, 1 is text with equal stacks counted.
var profiles = map[string]struct {
	name  string
	debug int
}{"goroutines": {"goroutine", 1}, "heap": {"heap", 0}, "allocs": {"allocs", 0}, "mutex": {"mutex", 0}, "block": {"block", 0}}

// Collect implements pb.DiagnosisServer.
func (d *diagnosisService) Collect(r *pb.CollectRequest, stream grpc.ServerStreamingServer[pb.CollectResponse]) error {
	w := writerFunc(func(p []byte) (int, error) {
		m := &pb.CollectResponse{Data: append([]byte(nil), p...)}
		if err := d.s.operator.within(writeTimeout, func() error { return stream.Send(m) }); err != nil {
			return 0, err
		}
		return len(p), nil
	})
	return d.collect(stream.Context(), r, w)
}

func (d *diagnosisService) collect(ctx context.Context, r *pb.CollectRequest, out io.Writer) error {
	select {
	case d.collecting <- struct{}{}:
		defer func() { <-d.collecting }()
	default:
		return overloaded(fmt.Sprintf("%d profiles or other parts are being sent already", maxCollects))
	}
	w := &boundedWriter{w: out, left: maxCollected}
	if p, ok := profiles[r.GetPart()]; ok {
		return pprof.Lookup(p.name).WriteTo(w, p.debug)
	}
	switch r.GetPart() {
	case "cpu":
		return d.profileCPU(ctx, w, r.GetSeconds())
	case "metrics":
		return d.writeMetrics(w)
	case "settings":
		if d.s.cfg.Diagnosis.Settings == nil {
			return invalid("this node does not tell its settings")
		}
		return json.NewEncoder(w).Encode(d.s.cfg.Diagnosis.Settings())
	case "raft":
		n, err := d.node()
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(n.RaftStats())
	}
	return invalid(fmt.Sprintf("part %.40q: want goroutines, heap, allocs, cpu, mutex, block, metrics, settings or raft", r.GetPart()))
}

func (d *diagnosisService) profileCPU(ctx context.Context, w io.Writer, seconds uint32) error {
	if seconds < 1 || seconds > maxCollectSeconds {
		return invalid(fmt.Sprintf("seconds %d: want 1 to %d", seconds, maxCollectSeconds))
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		return overloaded("a CPU profile is being made already")
	}
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-d.s.stopping:
	}
	pprof.StopCPUProfile() // writes it
	return ctx.Err()
}

func (d *diagnosisService) writeMetrics(w io.Writer) error {
	families, err := d.s.cfg.Gatherer.Gather()
	if err != nil {
		return err
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// boundedWriter passes on so many bytes in pieces and refuses more.
type boundedWriter struct {
	w    io.Writer
	left int
}

func (b *boundedWriter) Write(p []byte) (n int, err error) {
	if len(p) > b.left {
		return 0, fmt.Errorf("more than %d bytes", maxCollected)
	}
	b.left -= len(p)
	for len(p) > 0 && err == nil {
		var k int
		k, err = b.w.Write(p[:min(len(p), collectChunk)])
		n, p = n+k, p[k:]
	}
	return n, err
}

// Monitor implements pb.DiagnosisServer.
func (d *diagnosisService) Monitor(r *pb.MonitorRequest, stream grpc.ServerStreamingServer[pb.MonitorResponse]) error {
	book := d.s.cfg.Diagnosis.Log
	if book == nil {
		return invalid(errNoLog.Error())
	}
	level := hclog.Info
	if r.GetLevel() != "" {
		if level = hclog.LevelFromString(r.GetLevel()); level == hclog.NoLevel || level == hclog.Off {
			return invalid(fmt.Sprintf("level %.20q: want trace, debug, info, warn or error", r.GetLevel()))
		}
	}
	lines, w, full := book.recent(level, int(min(r.GetRecent(), logLines)), r.GetFollow())
	if full {
		return overloaded(fmt.Sprintf("%d readers follow this log already", logWatchers))
	}
	send := func(m *pb.MonitorResponse) error {
		return d.s.operator.within(writeTimeout, func() error { return stream.Send(m) })
	}
	err := func() error {
		for _, l := range lines {
			if err := send(&pb.MonitorResponse{Line: l}); err != nil {
				return err
			}
		}
		return d.follow(stream.Context(), w, send)
	}()
	if w == nil {
		return err
	}
	if lost := book.leave(w); lost > 0 {
		// What is still queued for it came before the gap.
		message := fmt.Sprintf("%d lines were dropped: this reader was too slow and is cut; ask for a higher level, or read the log file", lost)
		if err == nil {
			_ = send(&pb.MonitorResponse{Line: message, Dropped: lost})
		}
		return overloaded(message)
	}
	return err
}

// follow sends lines until the reader leaves, is cut, or the node stops.
func (d *diagnosisService) follow(ctx context.Context, w *logWatcher, send func(*pb.MonitorResponse) error) error {
	if w == nil {
		return nil
	}
	for {
		select {
		case l := <-w.lines:
			if err := send(&pb.MonitorResponse{Line: l}); err != nil {
				return err
			}
		case <-w.cut:
			for {
				select {
				case l := <-w.lines:
					if err := send(&pb.MonitorResponse{Line: l}); err != nil {
						return err
					}
				default:
					return nil
				}
			}
		case <-ctx.Done():
			return nil
		case <-d.s.stopping:
			return nil
		}
	}
}

// profilePath is where go tool pprof finds the profiles, for who may Collect.
const profilePath = "/debug/pprof/"

// serveProfile answers GET /debug/pprof/NAME as net/http/pprof does, without the parts that
// show the command line or run for as long as anybody likes.
func (d *diagnosisService) serveProfile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	req := &pb.CollectRequest{Part: name, Seconds: 10}
	switch name {
	case "profile":
		req.Part = "cpu"
		if s := r.URL.Query().Get("seconds"); s != "" {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil {
				n = 0 // refused below
			}
			req.Seconds = uint32(n)
		}
	case "goroutine":
		req.Part = "goroutines"
	case "heap", "allocs", "mutex", "block":
	default:
		routingError(r.Context(), nil, nil, w, r, http.StatusNotFound)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	began := false
	err := d.collect(r.Context(), req, writerFunc(func(p []byte) (int, error) {
		if !began {
			began = true
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		return w.Write(p)
	}))
	if err != nil && !began {
		apiError(r.Context(), nil, nil, w, r, statusOf(err, d.s.cfg.Node.ID(), d.s.cfg.Node.Leader).Err())
	}
}
