package workload

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Place is where workers run.
type Place struct {
	Name string
	// Dial opens a connection from there.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// api is the service as a worker calls it. Errors are *client.Error.
type api interface {
	Checkout(context.Context, *pb.CheckoutRequest) (*pb.CheckoutResponse, error)
	Renew(context.Context, *pb.RenewRequest) (*pb.RenewResponse, error)
	Checkin(context.Context, *pb.CheckinRequest) (*pb.CheckinResponse, error)
	Verify(context.Context, *pb.VerifyRequest) (*pb.VerifyResponse, error)
	Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error)
	Leases(context.Context, *pb.LeasesRequest) (*pb.LeasesResponse, error)
	Kill(context.Context, *pb.KillRequest) (*pb.KillResponse, error)
	// Drop closes all connections; the next call opens new ones.
	Drop()
}

// sdkAPI calls through the SDK, which retries and finds the leader.
type sdkAPI struct {
	cfg client.Config
	c   *client.Client
}

// attemptTimeout is shorter than the SDK's default: leases live for seconds here.
const attemptTimeout = time.Second

// sdkConfig is how the SDK reaches the nodes from a place.
func sdkConfig(p Place, addresses []string) client.Config {
	return client.Config{Addresses: addresses, AttemptTimeout: attemptTimeout, RetryInterval: time.Second,
		Dial: func(ctx context.Context, hostPort string) (net.Conn, error) { return p.Dial(ctx, "tcp", hostPort) }}
}

func newSDK(p Place, addresses []string) (*sdkAPI, error) {
	cfg := sdkConfig(p, addresses)
	c, err := client.New(cfg)
	return &sdkAPI{cfg, c}, err
}

func (a *sdkAPI) Drop() {
	_ = a.c.Close(context.Background()) // no session of its own: nothing is returned
	a.c, _ = client.New(a.cfg)          // the settings were good before
}

func (a *sdkAPI) Checkout(ctx context.Context, r *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	return a.c.Seats().Checkout(ctx, r)
}
func (a *sdkAPI) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.RenewResponse, error) {
	return a.c.Seats().Renew(ctx, r)
}
func (a *sdkAPI) Checkin(ctx context.Context, r *pb.CheckinRequest) (*pb.CheckinResponse, error) {
	return a.c.Seats().Checkin(ctx, r)
}
func (a *sdkAPI) Verify(ctx context.Context, r *pb.VerifyRequest) (*pb.VerifyResponse, error) {
	return a.c.Seats().Verify(ctx, r)
}
func (a *sdkAPI) Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	return a.c.Cluster().Status(ctx, r)
}
func (a *sdkAPI) Leases(ctx context.Context, r *pb.LeasesRequest) (*pb.LeasesResponse, error) {
	return a.c.Cluster().Leases(ctx, r)
}
func (a *sdkAPI) Kill(ctx context.Context, r *pb.KillRequest) (*pb.KillResponse, error) {
	return a.c.Cluster().Kill(ctx, r)
}

// httpAPI calls with plain HTTP and JSON, one node a call and no retries: what somebody
// with curl -L gets.
type httpAPI struct {
	addresses []string
	pick      func(n int) int
	transport *http.Transport
	client    *http.Client
	// node, if set, is the only one that is asked.
	node string
}

// maxHops bounds redirects: a node that does not lead names the one that does.
const maxHops = 3

func newHTTP(p Place, addresses []string, pick func(n int) int) *httpAPI {
	a := &httpAPI{addresses: addresses, pick: pick, transport: &http.Transport{
		DialContext: p.Dial, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 2,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	a.client = &http.Client{Transport: a.transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxHops || !slices.Contains(addresses, r.URL.Host) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return a
}

func (a *httpAPI) Drop() { a.transport.CloseIdleConnections() }

func (a *httpAPI) Checkout(ctx context.Context, r *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	return post(ctx, a, "/v1/checkout", r, &pb.CheckoutResponse{})
}
func (a *httpAPI) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.RenewResponse, error) {
	return post(ctx, a, "/v1/renew", r, &pb.RenewResponse{})
}
func (a *httpAPI) Checkin(ctx context.Context, r *pb.CheckinRequest) (*pb.CheckinResponse, error) {
	return post(ctx, a, "/v1/checkin", r, &pb.CheckinResponse{})
}
func (a *httpAPI) Verify(ctx context.Context, r *pb.VerifyRequest) (*pb.VerifyResponse, error) {
	return post(ctx, a, "/v1/verify", r, &pb.VerifyResponse{})
}
func (a *httpAPI) Kill(ctx context.Context, r *pb.KillRequest) (*pb.KillResponse, error) {
	return post(ctx, a, "/v1/kill", r, &pb.KillResponse{})
}

func (a *httpAPI) Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	q := url.Values{}
	set(q, "tenant", r.Tenant)
	if r.Stale {
		q.Set("stale", "true")
	}
	return get(ctx, a, "/v1/status", q, &pb.StatusResponse{})
}

func (a *httpAPI) Leases(ctx context.Context, r *pb.LeasesRequest) (*pb.LeasesResponse, error) {
	q := url.Values{}
	set(q, "tenant", r.Tenant)
	set(q, "feature", r.Feature)
	if r.Stale {
		q.Set("stale", "true")
	}
	return get(ctx, a, "/v1/leases", q, &pb.LeasesResponse{})
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func post[T proto.Message](ctx context.Context, a *httpAPI, path string, request proto.Message, answer T) (T, error) {
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(request)
	if err != nil {
		return answer, err
	}
	return answer, a.call(ctx, http.MethodPost, path, body, answer)
}

func get[T proto.Message](ctx context.Context, a *httpAPI, path string, q url.Values, answer T) (T, error) {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return answer, a.call(ctx, http.MethodGet, path, nil, answer)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// call sends one request. Whether it may have been carried out when no answer comes is
// told by whether any of it was written to a connection.
func (a *httpAPI) call(ctx context.Context, method, path string, body []byte, answer proto.Message) error {
	node := a.node
	if node == "" {
		node = a.addresses[a.pick(len(a.addresses))]
	}
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { written.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, "http://"+node+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		reason := client.UnknownOutcome
		if !written.Load() {
			reason = client.Unreachable
		}
		return &client.Error{Reason: reason, Message: err.Error(), Cause: errors.Unwrap(err)}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &client.Error{Reason: client.UnknownOutcome, Message: err.Error(), Cause: err}
	}
	if resp.StatusCode != http.StatusOK {
		return httpError(resp, data)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, answer); err != nil {
		return fmt.Errorf("answer to %s: %w", path, err)
	}
	return nil
}

// httpError reads the one shape that errors have.
func httpError(resp *http.Response, data []byte) error {
	var body struct {
		Reason, Message string
		Final           bool
		RetryAfterMS    int64 `json:"retry_after_ms"`
		Position        int
	}
	if err := json.Unmarshal(data, &body); err != nil || body.Reason == "" {
		if resp.StatusCode == http.StatusTemporaryRedirect {
			return &client.Error{Reason: client.NotLeader, Message: "redirected to nowhere we know"}
		}
		return &client.Error{Reason: client.UnknownOutcome, Message: fmt.Sprintf("HTTP %d: %.200s", resp.StatusCode, data)}
	}
	e := &client.Error{Message: body.Message, Final: body.Final, RetryAfter: time.Duration(body.RetryAfterMS) * time.Millisecond, Position: body.Position}
	// The reason's type is the rules' own; it is set by conversion from the field's.
	setReason(e, body.Reason)
	return e
}
