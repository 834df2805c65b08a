package main

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing sends spans of traced calls to a collector. The variables of OpenTelemetry
// (OTEL_…) are understood beside it; what stands here goes before them.
type Tracing struct {
	// OTLPEndpoint is the collector's host:port or URL for OTLP over gRPC; empty and no
	// OTEL_EXPORTER_OTLP_ENDPOINT means that nothing is traced, which costs nothing.
	OTLPEndpoint string `yaml:"otlp_endpoint"`
	// SampleRatio is the part of the calls, 0 to 1, that begin a trace here. Callers that
	// bring a trace decide for themselves.
	SampleRatio float64 `yaml:"sample_ratio"`
	// Insecure speaks to the collector without TLS.
	Insecure bool `yaml:"insecure"`
}

const (
	// defaultSampleRatio: one call of a hundred shows where time goes; all of a busy
	// cluster's would fill the collector with the same.
	defaultSampleRatio = 0.01
	// traceFlush bounds the sending of the last spans when a node stops.
	traceFlush = time.Second
	// traceQueue bounds the spans that wait to be sent; more are dropped, since callers
	// choose how many there are.
	traceQueue = 2048
)

func (c *Tracing) validate(bad func(key, format string, args ...any)) {
	if math.IsNaN(c.SampleRatio) || c.SampleRatio < 0 || c.SampleRatio > 1 {
		bad("tracing.sample_ratio", "%v: use 0 to 1", c.SampleRatio)
	}
	if c.OTLPEndpoint == "" {
		return
	}
	if u, err := url.Parse(c.OTLPEndpoint); err == nil && u.Host != "" {
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			bad("tracing.otlp_endpoint", "write host:port, or a URL with http:// or https:// and no password in it")
		}
		return
	}
	if _, err := splitAddress(c.OTLPEndpoint); err != nil {
		bad("tracing.otlp_endpoint", "%v, or a URL", err)
	}
}

// asked says whether anybody wants traces.
func (c *Tracing) asked() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return c.OTLPEndpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// startTracing returns what makes spans, nil when nobody asked for them, and what sends the
// last ones. A collector that does not answer holds nothing up.
func startTracing(ctx context.Context, c *Tracing, node string, log hclog.Logger) (trace.Tracer, func(), error) {
	if !c.asked() {
		return nil, func() {}, nil
	}
	var options []otlptracegrpc.Option
	switch {
	case strings.Contains(c.OTLPEndpoint, "://"):
		options = append(options, otlptracegrpc.WithEndpointURL(c.OTLPEndpoint))
	case c.OTLPEndpoint != "":
		options = append(options, otlptracegrpc.WithEndpoint(c.OTLPEndpoint))
	}
	if c.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, nil, exitf(exitConfig, "tracing: %w", err)
	}
	who, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "seatkeeper"),
		attribute.String("service.instance.id", node), attribute.String("service.version", buildVersion())), resource.WithFromEnv())
	if err != nil {
		return nil, nil, exitf(exitConfig, "tracing: %w", err)
	}
	settings := []sdktrace.TracerProviderOption{sdktrace.WithResource(who),
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(traceQueue))}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		settings = append(settings, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.SampleRatio))))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are not sent", "error", oneLine(fmt.Sprint(err))) }))
	provider := sdktrace.NewTracerProvider(settings...)
	log.Info("calls are traced", "sample_ratio", c.SampleRatio)
	return provider.Tracer("github.com/seatkeeper/seatkeeper"), func() {
		ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Debug("the last traces were not sent", "error", err)
		}
	}, nil
}
