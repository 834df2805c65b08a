package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Each node is asked once: a certificate that is not accepted is not accepted a second later.
func TestCertificateTroubleIsToldAtOnce(t *testing.T) {
	for said, atOnce := range map[string]bool{
		"tls: failed to verify certificate: x509: certificate signed by unknown authority":              true,
		"tls: failed to verify certificate: x509: certificate has expired or is not yet valid: at noon": true,
		"remote error: tls: certificate required":                                                       true,
		"remote error: tls: bad certificate":                                                            true,
		"remote error: tls: internal error":                                                             false,
		"connect: connection refused":                                                                   false,
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			var dials atomic.Int64
			c, err := New(Config{Addresses: []string{"127.0.0.1:1", "127.0.0.1:2"}, CallTimeout: time.Minute,
				Dial: func(context.Context, string) (net.Conn, error) {
					dials.Add(1)
					return nil, errors.New(said)
				}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(context.Background())
			limit := 30 * time.Second
			if !atOnce {
				limit = 2 * time.Second // it would go on for the minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err = c.Cluster().Status(ctx, &pb.StatusRequest{})
			if err == nil || atOnce && !strings.Contains(err.Error(), said) {
				t.Fatalf("answered %v", err)
			}
			if gaveUp := ctx.Err() == nil; gaveUp != atOnce {
				t.Errorf("given up before its time: %v after %d dials, want %v", gaveUp, dials.Load(), atOnce)
			}
		})
	}
}
