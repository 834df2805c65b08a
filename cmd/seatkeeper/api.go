package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// callTimeout bounds one call of a command, beside a wait for seats: it outlasts an
// election many times, and is what a person at a prompt will bear.
const callTimeout = 10 * time.Second

// conn is the way to the cluster for single calls: it retries and finds the leader.
type conn struct {
	client  *client.Client
	seats   pb.SeatsClient
	cluster pb.ClusterClient
	history pb.HistoryClient
}

// dial prepares calls to the cluster of the settings; wait is added to what a call
// may take. Nothing is sent yet.
func (a *app) dial(wait time.Duration) (*conn, error) {
	return dialCluster(a.cfg.Client, callTimeout+wait)
}

func dialCluster(c Client, timeout time.Duration) (*conn, error) {
	cl, err := newClient(c, timeout)
	if err != nil {
		return nil, err
	}
	return &conn{client: cl, seats: cl.Seats(), cluster: cl.Cluster(), history: cl.History()}, nil
}

// newClient makes the SDK's client from the settings.
func newClient(c Client, timeout time.Duration) (*client.Client, error) {
	cfg := client.Config{
		Addresses: splitList(c.Addr), Token: c.Token, Tenant: c.Tenant,
		CACert: c.CACert, ClientCert: c.ClientCert, ClientKey: c.ClientKey, CallTimeout: timeout,
	}
	// FlexNet's LM_A_* settings are in the environment only.
	cfg, err := cfg.WithEnv()
	if err != nil {
		return nil, usagef("%w", err)
	}
	cl, err := client.New(cfg)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return cl, nil
}

// Close ends the connections; sessions of single calls stay open on the cluster.
func (c *conn) Close() { _ = c.client.Close(context.Background()) }

// refused is a "no" of the cluster: its reason is what programs compare.
type refused struct {
	reason, message string
}

func (e *refused) Error() string { return e.reason + ": " + e.message }

// reasonOf returns the reason code of an error, or "".
func reasonOf(err error) string {
	var r *refused
	if errors.As(err, &r) {
		return r.reason
	}
	return ""
}

// refusal turns a reason of the error table into an error with its exit code.
func refusal(reason lease.Reason, message string, final bool) error {
	code := exitError1
	switch reason {
	case client.Unauthenticated, lease.Forbidden, lease.Fenced, "excluded", "not_included", "borrow_off":
		code = exitNotAllowed
	case lease.Invalid:
		code = exitUsage
	case client.Unreachable, client.NotLeader, client.UnknownOutcome:
		code = exitUnreachable
	case lease.SessionUnknown, lease.StaleRequest, client.Closed, lease.BookingUnknown:
	default:
		if !final {
			code = exitNoSeat
		}
	}
	return &exitError{code: code, err: &refused{string(reason), message + remedy(reason)}}
}

// remedy says what to do about a reason, where the message cannot know.
func remedy(reason lease.Reason) string {
	switch reason {
	case lease.NoSeats:
		return " (seatkeeper leases shows who holds them; --wait 5m waits)"
	case lease.NoFeature:
		return "; seatkeeper status lists what there is"
	case client.Unauthenticated:
		return "; set SEATKEEPER_TOKEN"
	case client.Unreachable, client.NotLeader:
		return "; check --addr or SEATKEEPER_ADDR, and seatkeeper status"
	case client.UnknownOutcome:
		return "; it may have been done or not: look what is there (seatkeeper leases, license list, policy show), then try again"
	}
	return ""
}

// apiError turns an error of an API call into one with an exit code.
func apiError(err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return err
	}
	message := e.Message
	if inner := dialTrouble.FindStringSubmatch(message); inner != nil {
		message = inner[1]
	}
	if message == "" {
		message = "no answer"
	}
	return refusal(e.Reason, plainTLS(message), e.Final)
}

// plainTLS says in our words what usually is behind trouble with TLS.
func plainTLS(message string) string {
	switch {
	case strings.Contains(message, "error reading server preface: EOF"), strings.Contains(message, "error reading server preface: read tcp"):
		return "the server hung up: if it speaks TLS, write https:// before its address"
	case strings.Contains(message, "first record does not look like a TLS handshake"):
		return "the server speaks plain text: write its address without https://"
	case strings.Contains(message, "certificate required"):
		return "the server asks for a client certificate (tls: certificate required): set SEATKEEPER_CLIENT_CERT and SEATKEEPER_CLIENT_KEY"
	case strings.Contains(message, "remote error: tls: expired certificate"):
		return "the server says that your certificate (SEATKEEPER_CLIENT_CERT) has expired: make a new one with seatkeeper tls cert create NAME --client"
	case strings.Contains(message, "remote error: tls: bad certificate"), strings.Contains(message, "remote error: tls: unknown certificate"):
		return "the server does not accept your certificate (SEATKEEPER_CLIENT_CERT): use one that the CA of the cluster has signed"
	case strings.Contains(message, "certificate has expired or is not yet valid"):
		return "the server's certificate has expired or begins later: replace it with seatkeeper tls cert create, and look at the clock of this machine (" + detail(message) + ")"
	case strings.Contains(message, "x509: certificate is valid for"), strings.Contains(message, "x509: cannot validate certificate for"):
		return "the server's certificate does not name the address you use: use one that it names, or make it anew with --host (" + detail(message) + ")"
	case strings.Contains(message, "signed by unknown authority"):
		return "the server's certificate is signed by an unknown authority: set SEATKEEPER_CACERT to the CA of the cluster"
	}
	return message
}

// detail is what crypto/x509 says.
func detail(message string) string {
	_, said, _ := strings.Cut(message, "x509: ")
	return strings.TrimRight(said, `"`)
}

// dialTrouble finds what the system said in what grpc makes of it.
var dialTrouble = regexp.MustCompile(`desc = "(?:transport: )?(?:Error while dialing: )?(.*)"$`)

// isUnreachable says that nobody who leads could be asked.
func isUnreachable(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.code == exitUnreachable
}
