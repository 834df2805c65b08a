package rpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Reasons of the API that the rules do not give (yet). Each is returned when the
// words beside it hold.
const (
	NotLeader       lease.Reason = "not_leader"      // not applied here: ask the leader, or again
	UnknownOutcome  lease.Reason = "unknown_outcome" // may have happened: same seq again
	Unauthenticated lease.Reason = "unauthenticated" // no valid token
	NotUpgraded     lease.Reason = "not_upgraded"    // a member must be upgraded first
)

// face is how a reason looks from outside.
type face struct {
	HTTP int        // status of the JSON answer (not_leader: 307 while a leader is known)
	Code codes.Code // gRPC code; its name is "code" in the JSON answer
	Text string     // used where the refusal brings no message of its own
}

// faces is the table from reason to what a caller sees; FlexNet's numbers are those of
// lease.Reason.FlexNetNumber.
var faces = map[lease.Reason]face{
	lease.NoSeats:           {409, codes.ResourceExhausted, "no seat is free"},
	lease.NoFeature:         {404, codes.NotFound, "no licence has this feature"},
	lease.BadVersion:        {409, codes.FailedPrecondition, "no licence covers this version"},
	lease.LicenseExpired:    {403, codes.PermissionDenied, "the licence has expired"},
	lease.NotStarted:        {403, codes.PermissionDenied, "the licence is not valid yet"},
	lease.Excluded:          {403, codes.PermissionDenied, "a policy excludes this principal"},
	lease.NotIncluded:       {403, codes.PermissionDenied, "a policy does not include this principal"},
	lease.MaxReached:        {409, codes.ResourceExhausted, "the limit set by a policy is reached"},
	lease.ReservedForOthers: {409, codes.ResourceExhausted, "the free seats are reserved for others"},
	lease.TooManyRequested:  {422, codes.OutOfRange, "more seats requested than the licence counts"},
	lease.InQueue:           {202, codes.ResourceExhausted, "the request is queued"},
	lease.BookingUnknown:    {404, codes.NotFound, "no such booking: it was cancelled, or its time is over"},
	lease.BorrowOff:         {403, codes.PermissionDenied, "the licence does not allow borrowing"},
	lease.BorrowNoneLeft:    {409, codes.ResourceExhausted, "no seat is left to borrow"},
	lease.BorrowTooLong:     {422, codes.OutOfRange, "longer than the licence lets a seat be borrowed"},
	lease.TooSoon:           {409, codes.FailedPrecondition, "the policy does not let a lease be taken back so early"},
	lease.SessionsExceeded:  {409, codes.ResourceExhausted, "too many sessions share this seat"},
	lease.Fenced:            {409, codes.Aborted, "another holder or a newer run has taken over"},
	lease.StaleRequest:      {409, codes.Aborted, "a later request of this session was already answered"},
	lease.SessionUnknown:    {404, codes.NotFound, "no such session: check out again"},
	lease.Overloaded:        {429, codes.ResourceExhausted, "too many requests: slow down"},
	NotLeader:               {503, codes.Unavailable, "no leader is known: try again"},
	UnknownOutcome:          {503, codes.Unknown, "the outcome is unknown: send it again with the same seq"},
	NotUpgraded:             {409, codes.FailedPrecondition, "a node of the cluster must be upgraded first"},
	Unauthenticated:         {401, codes.Unauthenticated, "a valid token is needed"},
	lease.Forbidden:         {403, codes.PermissionDenied, "not allowed"},
	lease.Invalid:           {400, codes.InvalidArgument, "the request is not valid"},
}

// retryNoLeader is the hint while no leader is known: an election takes less.
const retryNoLeader = time.Second

// retryOverload returns a hint between half a second and a second and a half, so
// that refused clients do not come back together.
func retryOverload() time.Duration {
	return 500*time.Millisecond + rand.N(time.Second)
}

func invalid(message string) error {
	return &lease.Refusal{Reason: lease.Invalid, Message: message, Final: true}
}

func overloaded(message string) error { return overloadedFor(message) }

func overloadedFor(message string) *lease.Refusal {
	return &lease.Refusal{Reason: lease.Overloaded, Message: message, RetryAfter: retryOverload()}
}

// notUpgraded is final while somebody is to be upgraded: nothing that a client does helps.
func notUpgraded(e *cluster.VersionError) *lease.Refusal {
	r := &lease.Refusal{Reason: NotUpgraded, Message: e.Error(), Final: len(e.Behind) > 0}
	if !r.Final {
		r.RetryAfter = retryNoLeader
	}
	return r
}

// overloadedBy says which limit was reached.
func overloadedBy(limit, tenant string) *lease.Refusal {
	switch limit {
	case "node":
		return overloadedFor("this node has all the requests in flight that it takes")
	case "connection":
		return overloadedFor("this connection has too many requests in flight")
	case "client":
		return overloadedFor("this client has too many requests in flight")
	case "strangers":
		return overloadedFor("tenants without a licence or a token have too many requests in flight together")
	case "held":
		return overloadedFor("wait as long as you are asked to before you try again")
	}
	return overloadedFor("tenant " + tenant + " has too many requests in flight")
}

// statusOf turns any error of a handler into the status that leaves the node.
// Leader is asked for the redirect address, self is this node's id: a node never
// sends a caller to itself.
func statusOf(err error, self string, leader func() (fsm.Epoch, bool)) *status.Status {
	var refusal *lease.Refusal
	var notLeader *cluster.NotLeaderError
	var queued *queuedError
	var behind *cluster.VersionError
	switch {
	case errors.As(err, &queued):
		return refusedAt(queued.Refusal, queued)
	case errors.As(err, &refusal):
		return refused(refusal)
	case errors.As(err, &notLeader):
		return redirect(self, leader)
	case errors.As(err, &behind):
		return refused(notUpgraded(behind))
	case errors.Is(err, cluster.ErrNotApplied), errors.Is(err, cluster.ErrStopped):
		return refused(&lease.Refusal{Reason: NotLeader, Message: err.Error(), RetryAfter: retryNoLeader})
	case errors.Is(err, cluster.ErrOverloaded):
		return refused(overloaded(err.Error()).(*lease.Refusal))
	case errors.Is(err, cluster.ErrTooLarge):
		return refused(&lease.Refusal{Reason: lease.Invalid, Message: err.Error(), Final: true})
	case errors.Is(err, cluster.ErrUnknown):
		return refused(&lease.Refusal{Reason: UnknownOutcome, Message: err.Error()})
	case errors.Is(err, context.DeadlineExceeded):
		// Propose never says so; a read that no majority confirmed in time does.
		return refused(&lease.Refusal{Reason: NotLeader, Message: "no answer from a majority in time: try again",
			RetryAfter: retryNoLeader})
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "the caller went away")
	}
	if st, ok := status.FromError(err); ok {
		return st // a forwarded answer, or one made by grpc itself
	}
	return refused(&lease.Refusal{Reason: UnknownOutcome, Message: err.Error()})
}

// problemPB is a refusal as its caller reads it, with its gRPC code.
func problemPB(r *lease.Refusal) (*pb.Problem, codes.Code) {
	look, ok := faces[r.Reason]
	if !ok {
		look = face{HTTP: http.StatusInternalServerError, Code: codes.Unknown}
	}
	message := r.Message
	if message == "" {
		message = look.Text
	}
	return &pb.Problem{
		Reason:       string(r.Reason),
		Final:        r.Final,
		RetryAfterMs: millisUp(r.RetryAfter),
		Message:      message,
	}, look.Code
}

func refused(r *lease.Refusal, more ...protoadapt.MessageV1) *status.Status {
	return refusedAt(r, nil, more...)
}

// refusedAt also tells where a request stands in the queue.
func refusedAt(r *lease.Refusal, at *queuedError, more ...protoadapt.MessageV1) *status.Status {
	problem, code := problemPB(r)
	if at != nil {
		problem.Position, problem.Session, problem.Ticket = uint32(at.place.Position), at.session, at.place.Ticket
	}
	st := status.New(code, problem.Message)
	with, err := st.WithDetails(append([]protoadapt.MessageV1{problem}, more...)...)
	if err != nil {
		return st // cannot happen: both details are plain messages
	}
	return with
}

func redirect(self string, leader func() (fsm.Epoch, bool)) *status.Status {
	epoch, ok := leader()
	if !ok || epoch.APIAddress == "" || epoch.Node == self {
		return refused(&lease.Refusal{Reason: NotLeader, RetryAfter: retryNoLeader},
			&pb.NotLeader{Epoch: epoch.Index})
	}
	return refused(&lease.Refusal{Reason: NotLeader, Message: "not the leader: ask " + epoch.Node + " at " + epoch.APIAddress},
		&pb.NotLeader{LeaderAddress: epoch.APIAddress, Epoch: epoch.Index, Leader: epoch.Node})
}

// details finds the typed details of a status; either may be nil.
func details(st *status.Status) (problem *pb.Problem, notLeader *pb.NotLeader) {
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *pb.Problem:
			problem = d
		case *pb.NotLeader:
			notLeader = d
		}
	}
	return problem, notLeader
}

// problemOf gives the problem of a status, also of one that grpc or the JSON
// decoder made and that has no details.
func problemOf(st *status.Status) *pb.Problem {
	if p, _ := details(st); p != nil {
		return p
	}
	p := &pb.Problem{Message: st.Message()}
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.OutOfRange:
		p.Reason, p.Final = string(lease.Invalid), true
	case codes.ResourceExhausted:
		p.Reason, p.RetryAfterMs = string(lease.Overloaded), millisUp(retryOverload())
	case codes.PermissionDenied:
		p.Reason, p.Final = string(lease.Forbidden), true
	case codes.Unauthenticated:
		p.Reason, p.Final = string(Unauthenticated), true
	case codes.Unavailable:
		p.Reason, p.RetryAfterMs = string(NotLeader), millisUp(retryNoLeader)
	default:
		p.Reason = string(UnknownOutcome)
	}
	return p
}

// Face gives the HTTP status of a reason and the name of its gRPC code, as the JSON API
// shows them; 500 and UNKNOWN for a reason that it does not know.
func Face(r lease.Reason) (status int, code string) {
	look, ok := faces[r]
	if !ok {
		look = face{HTTP: http.StatusInternalServerError, Code: codes.Unknown}
	}
	return look.HTTP, codeName(look.Code)
}
