package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/console"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// newHandler builds everything that HTTP/1.1 serves; calls go to conn.
func (s *Server) newHandler(conn grpc.ClientConnInterface) (http.Handler, error) {
	api := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonCodec{}),
		runtime.SetQueryParameterParser(&queryParser{}),
		runtime.WithErrorHandler(apiError),
		runtime.WithRoutingErrorHandler(routingError),
		runtime.WithIncomingHeaderMatcher(passedHeader),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisablePathLengthFallback(), // a form to a GET path is a mistake here
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	ctx := context.Background()
	if err := pb.RegisterSeatsHandlerClient(ctx, api, pb.NewSeatsClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterClusterHandlerClient(ctx, api, pb.NewClusterClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterAccessHandlerClient(ctx, api, pb.NewAccessClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterBorrowingHandlerClient(ctx, api, pb.NewBorrowingClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterHistoryHandlerClient(ctx, api, pb.NewHistoryClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterPoliciesHandlerClient(ctx, api, pb.NewPoliciesClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterQueueHandlerClient(ctx, api, pb.NewQueueClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterDiagnosisHandlerClient(ctx, api, pb.NewDiagnosisClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterMembershipHandlerClient(ctx, api, pb.NewMembershipClient(conn)); err != nil {
		return nil, err
	}
	if err := pb.RegisterTenantsHandlerClient(ctx, api, pb.NewTenantsClient(conn)); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/livez", readOnly(http.HandlerFunc(s.livez)))
	mux.Handle("/readyz", readOnly(http.HandlerFunc(s.readyz)))
	mux.Handle("/v1/sys/health", readOnly(http.HandlerFunc(s.sysHealth)))
	mux.Handle("/metrics", readOnly(s.guarded(metricsMethod, promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))))
	mux.Handle(profilePath+"{name}", readOnly(s.guarded(pb.Diagnosis_Collect_FullMethodName, http.HandlerFunc(s.diagnosis.serveProfile))))
	mux.Handle("/.well-known/jwks.json", readOnly(http.HandlerFunc(s.serveJWKS)))
	mux.Handle("/v1/snapshot", withBearer(saveOnly(s.operator.serveHTTP)))
	s.handleNext(mux)
	mux.Handle("/", api)
	mux.Handle(console.Path, console.New(mux, s.stopping))
	mux.Handle("/{$}", readOnly(http.RedirectHandler(console.Path, http.StatusFound)))
	return bounded(ownPages(console.Refusals(mux))), nil
}

// ownPages refuses changes that a page of another site asks a browser for.
func ownPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := console.CheckOrigin(r); err != nil {
			writeProblem(w, http.StatusForbidden, codes.PermissionDenied,
				&pb.Problem{Reason: string(lease.Forbidden), Final: true, Message: err.Error()})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// passedHeader names the HTTP headers that mean something to a call. Addresses in
// X-Forwarded-For are not among them.
func passedHeader(name string) (string, bool) {
	for _, known := range []string{forwardKey, "traceparent", "tracestate"} {
		if strings.EqualFold(name, known) {
			return known, true
		}
	}
	return "", false
}

// bounded reads the body of each request within its size and time before anything
// else sees it, and bounds the writing of the answer.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := http.NewResponseController(w)
		// A time-out of the whole request in http.Server would cut off those that
		// wait for seats, so reading and writing are bounded each by itself.
		_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
		_ = conn.SetWriteDeadline(time.Now().Add(bodyTimeout + writeTimeout)) // also "100 Continue"
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		if err != nil {
			refuseBody(w, err)
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
		_ = conn.SetWriteDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(&deadlineWriter{ResponseWriter: w, conn: conn}, r)
	})
}

func refuseBody(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		message := fmt.Sprintf("the body is too large: at most %d bytes are allowed", tooLarge.Limit)
		writeProblem(w, http.StatusRequestEntityTooLarge, codes.InvalidArgument, invalidProblem(message))
		return
	}
	writeProblem(w, http.StatusBadRequest, codes.InvalidArgument, invalidProblem("the body ended early or came too slowly"))
}

// deadlineWriter starts the clock for a slow reader with the first byte of the answer.
type deadlineWriter struct {
	http.ResponseWriter
	conn    *http.ResponseController
	started bool
}

func (w *deadlineWriter) start() {
	if !w.started {
		w.started = true
		_ = w.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
}

func (w *deadlineWriter) WriteHeader(code int) {
	w.start()
	w.ResponseWriter.WriteHeader(code)
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	w.start()
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// problemBody is the one shape of errors. Code is the name of the gRPC code.
type problemBody struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Reason       string `json:"reason"`
	Final        bool   `json:"final"`
	RetryAfterMs uint32 `json:"retry_after_ms"`
	// Of a request that is queued: where it stands, and the session that has the place.
	Position uint32         `json:"position,omitempty"`
	Session  *problemHolder `json:"session,omitempty"`
}

type problemHolder struct {
	ID          string `json:"id"`
	Secret      string `json:"secret,omitempty"`
	HeartbeatMs uint32 `json:"heartbeat_ms"`
}

func invalidProblem(message string) *pb.Problem {
	return &pb.Problem{Reason: string(lease.Invalid), Final: true, Message: message}
}

func writeProblem(w http.ResponseWriter, httpStatus int, code codes.Code, p *pb.Problem) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if p.GetRetryAfterMs() > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(float64(p.GetRetryAfterMs())/1000))))
	}
	if httpStatus == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="seatkeeper"`)
	}
	body := problemBody{Code: codeName(code), Message: p.GetMessage(), Reason: p.GetReason(),
		Final: p.GetFinal(), RetryAfterMs: p.GetRetryAfterMs(), Position: p.GetPosition()}
	if s := p.GetSession(); s != nil {
		body.Session = &problemHolder{s.GetId(), s.GetSecret(), s.GetHeartbeatMs()}
	}
	text, _ := jsonCodec{}.Marshal(body)
	w.WriteHeader(httpStatus)
	_, _ = w.Write(text)
}

// apiError writes the error of a call, or the redirect it means.
func apiError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	st := status.Convert(err)
	problem := problemOf(st)
	httpStatus := runtime.HTTPStatusFromCode(st.Code())
	if look, ok := faces[lease.Reason(problem.GetReason())]; ok && st.Code() != codes.Canceled {
		httpStatus = look.HTTP
	}
	if _, to := details(st); to.GetLeaderAddress() != "" {
		scheme := "http"
		if conn := connOf(r.Context()); conn != nil && conn.secure {
			scheme = "https"
		}
		httpStatus = http.StatusTemporaryRedirect // keeps method and body
		w.Header().Set("Location", scheme+"://"+to.GetLeaderAddress()+r.URL.RequestURI())
		w.Header().Set("X-Seatkeeper-Leader", to.GetLeader())
	}
	writeProblem(w, httpStatus, st.Code(), problem)
}

// routingError answers for paths and methods that do not exist.
func routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int) {
	switch httpStatus {
	case http.StatusNotFound:
		writeProblem(w, httpStatus, codes.NotFound, invalidProblem(fmt.Sprintf("no such path: %.200q", r.URL.Path)))
	case http.StatusMethodNotAllowed:
		writeProblem(w, httpStatus, codes.Unimplemented, invalidProblem(fmt.Sprintf("%.20s is not allowed on %.200q", r.Method, r.URL.Path)))
	default:
		writeProblem(w, http.StatusBadRequest, codes.InvalidArgument, invalidProblem("the request line is not valid"))
	}
}

func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			routingError(r.Context(), nil, nil, w, r, http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}
