//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	"github.com/seatkeeper/seatkeeper/rpc/client/oteltrace"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// collector takes spans as a real one would, and keeps them by trace.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string

	mu    sync.Mutex
	spans map[string][]collected // by trace id
	text  strings.Builder        // all that was sent, for looking for secrets
}

type collected struct {
	*tracepb.Span
	node string // "" for the client
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: l.Addr().String(), spans: map[string][]collected{}}
	srv := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(srv, c)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return c
}

func (c *collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.WriteString(r.String())
	for _, of := range r.ResourceSpans {
		node := ""
		for _, a := range of.Resource.GetAttributes() {
			if a.Key == "service.instance.id" && strings.HasPrefix(a.Value.GetStringValue(), "node-") {
				node = a.Value.GetStringValue()
			}
		}
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				id := hex.EncodeToString(s.TraceId)
				c.spans[id] = append(c.spans[id], collected{s, node})
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// whole waits until a trace has these spans, in this order from parent to child where a
// name is indented deeper, and every span has its parent in the trace.
func (c *collector) whole(t *testing.T, trace string, want ...string) {
	t.Helper()
	eventually(t, "the whole trace", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		by := map[string]collected{}
		for _, s := range c.spans[trace] {
			by[string(s.SpanId)] = s
		}
		paths := map[string]bool{}
		for _, s := range by {
			path := s.Name
			for len(s.ParentSpanId) > 0 {
				parent, ok := by[string(s.ParentSpanId)]
				if !ok {
					if path += " < (far)"; s.node == "" {
						return fmt.Errorf("%s of the client hangs in the air", s.Name)
					}
					break
				}
				if s.node == parent.node && (s.StartTimeUnixNano < parent.StartTimeUnixNano || s.EndTimeUnixNano > parent.EndTimeUnixNano) {
					return fmt.Errorf("%s is not within %s", s.Name, parent.Name)
				}
				path, s = path+" < "+parent.Name, parent
			}
			paths[path] = true
		}
		for _, w := range want {
			if !paths[w] {
				return fmt.Errorf("no %q among %v", w, paths)
			}
		}
		return nil
	})
}

// startTraced is a story whose nodes send their spans to the collector, and begin no trace
// by themselves.
func startTraced(t *testing.T, to *collector) *story {
	t.Helper()
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 3, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range d.nodes {
		l, err := loadConfig(n.Config, noEnv, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Tracing = Tracing{OTLPEndpoint: to.address, SampleRatio: 0, Insecure: true}
		text, err := yaml.Marshal(l.Config)
		if err == nil {
			err = os.WriteFile(n.Config, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &story{devCluster: d, t: t}
	t.Cleanup(s.end)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if err := d.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.installLicence(t.Context(), []sampleFeature{seats("cad", 10, patientProfile)}); err != nil {
		t.Fatal(err)
	}
	if s.conn, err = dialCluster(Client{Addr: d.address()}, callTimeout); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOneCheckoutIsOneTraceFromTheClientToTheStateMachine(t *testing.T) {
	inFull(t)
	to := startCollector(t)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100") // milliseconds
	s := startTraced(t, to)
	exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(to.address), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	defer provider.Shutdown(context.Background())
	cl, err := client.New(client.Config{Addresses: strings.Split(s.address(), ","), Tracer: oteltrace.New(provider), CallTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close(context.Background())
	session, err := cl.OpenSession(t.Context(), client.SessionConfig{Principal: lease.Principal{User: "ann-of-the-traces", Host: "ws1"}})
	if err != nil {
		t.Fatal(err)
	}
	const call, of = "seatkeeper.v1.Seats/Checkout", " < seatkeeper.v1.Seats/Checkout < seatkeeper.v1.Seats/Checkout < application"
	ctx, span := provider.Tracer("test").Start(t.Context(), "application")
	if _, err := session.Checkout(ctx, client.Item{Feature: "cad"}); err != nil {
		t.Fatal(err)
	}
	span.End()
	to.whole(t, span.SpanContext().TraceID().String(), "application", call+" < application", call+" < "+call+" < application",
		"seatkeeper.admission"+of, "seatkeeper.batch"+of, "raft.commit"+of, "fsm.apply"+of)

	// By curl, at a node that does not lead and is asked to forward.
	leader := s.leader(t)
	trace := "0af7651916cd43dd8448eb211c80319c"
	var answer pb.CheckoutResponse
	for _, n := range s.nodes {
		if n == leader {
			continue
		}
		req, err := http.NewRequest("POST", "http://"+n.API+"/v1/checkout", strings.NewReader(`{"feature":"cad","user":"bob","host":"ws2"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Seatkeeper-Forward", "1")
		req.Header.Set("Authorization", "Bearer token-of-the-traces")
		req.Header.Set("traceparent", "00-"+trace+"-b7ad6b7169203331-01")
		mustJSON(t, send(t, req), &answer)
		break
	}
	const forwarded = call + " < seatkeeper.forward < " + call + " < (far)"
	to.whole(t, trace, forwarded, "raft.commit < "+forwarded, "fsm.apply < "+forwarded)

	// What nobody traces makes no span; and no span says who it was or opens a door.
	if code, _, stderr := s.cli(t, "checkout", "cad", "--user", "eve"); code != 0 {
		t.Fatal(stderr)
	}
	_ = session.Close(t.Context())
	if err := s.stop(); err != nil { // the nodes send the rest
		t.Fatal(err)
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if len(to.spans) != 2 {
		t.Errorf("%d traces, want the two that were asked for", len(to.spans))
	}
	for _, secret := range []string{answer.Session.Secret, answer.Session.Id, "ann-of-the-traces", "bob", "ws1", "token-of-the-traces"} {
		if secret == "" || strings.Contains(to.text.String(), secret) {
			t.Errorf("%q is in the spans", secret)
		}
	}
}

// send sends a request and wants a 200.
func send(t *testing.T, req *http.Request) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", req.URL, resp.StatusCode, text, err)
	}
	return string(text)
}

func TestTracingIsConfiguredInOneLineOrNotAtAll(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	if tracer, _, err := startTracing(t.Context(), &Tracing{SampleRatio: 1}, "n", nil); tracer != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", tracer, err)
	}
	for text, want := range map[string]string{
		"{sample_ratio: 1.5}": "sample_ratio", "{sample_ratio: -1}": "sample_ratio", "{sample_ratio: .nan}": "sample_ratio",
		"{otlp_endpoint: nowhere}": "otlp_endpoint", "{otlp_endpoint: 'https://user:pass@host:4317'}": "otlp_endpoint", "{otlp_endpoint: 'ftp://host'}": "otlp_endpoint",
		"{otlp_endpoint: 'collector:4317'}": "", "{otlp_endpoint: 'https://collector:4317', sample_ratio: 0.5}": "",
	} {
		l, err := loadConfig(write(t, "c.yaml", "tracing: "+text+"\n"), noEnv, nil)
		if err == nil {
			err = l.check()
		}
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pass@")) {
			t.Errorf("%s: %v", text, err)
		}
	}
	code, out, stderr := run(t, map[string]string{"SEATKEEPER_TRACING_SAMPLE_RATIO": "0.25"}, "config", "show")
	if code != 0 || !strings.Contains(out, "0.25") {
		t.Errorf("%d %s%s", code, out, stderr)
	}
}
