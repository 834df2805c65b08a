package client

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Reasons that do not come from the rules.
const (
	// Unreachable: no node that leads could be asked; nothing was applied.
	Unreachable lease.Reason = "unreachable"
	// UnknownOutcome: the request was sent and may or may not have been applied.
	UnknownOutcome lease.Reason = "unknown_outcome"
	// NotLeader: no node could be found that leads.
	NotLeader lease.Reason = "not_leader"
	// NotUpgraded: a node runs an older build, which does not know the request, or may not
	// write it yet because others run one.
	NotUpgraded lease.Reason = "not_upgraded"
	// Unauthenticated: the token is missing or wrong.
	Unauthenticated lease.Reason = "unauthenticated"
	// Closed: the session or the client was closed here.
	Closed lease.Reason = "closed"
)

// Error is the error of every call. Compare Reason, never the text:
//
//	var e *client.Error
//	if errors.As(err, &e) && e.Reason == lease.NoSeats { … }
type Error struct {
	Reason lease.Reason
	// Message is for people.
	Message string
	// Final is true when the same request can never succeed as things stand.
	Final bool
	// RetryAfter is when asking again makes sense; 0 means no hint.
	RetryAfter time.Duration
	// Position is where the request stands in the queue (lease.InQueue), from 1.
	Position int
	ticket   uint64 // of its place there
	// Cause is what ended the tries, for example context.DeadlineExceeded.
	Cause error
}

func (e *Error) Error() string {
	text := string(e.Reason)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Cause != nil {
		text += fmt.Sprintf(" (%v)", e.Cause)
	}
	return text
}

// Unwrap returns Cause.
func (e *Error) Unwrap() error { return e.Cause }

// ReasonOf returns the reason of err, or "" if it has none.
func ReasonOf(err error) lease.Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// verdict is what one try on one node came to.
type verdict struct {
	kind verdictKind
	// err is the refusal, or the trouble in the Error form.
	err *Error
	// leader is the address a node named instead of itself.
	leader string
	// silent: the try took all its time without an answer (cut off, hung, too slow).
	silent bool
}

type verdictKind uint8

const (
	done     verdictKind = iota
	refused              // a definite no: tell the caller
	notHere              // this node does not lead, certainly not applied: ask another
	busy                 // certainly not applied: the same node again, later
	doubtful             // may have been applied: ask any node, with the same seq
)

// judge sorts the error of one try. onWire is whether the request may have left this
// process; if not, it was certainly not applied.
func judge(err error, onWire bool) verdict {
	if err == nil {
		return verdict{kind: done}
	}
	st := status.Convert(err)
	var problem *pb.Problem
	var elsewhere *pb.NotLeader
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *pb.Problem:
			problem = d
		case *pb.NotLeader:
			elsewhere = d
		}
	}
	e := &Error{Message: st.Message()}
	if problem != nil {
		e.Reason, e.Final = lease.Reason(problem.Reason), problem.Final
		e.RetryAfter = time.Duration(problem.RetryAfterMs) * time.Millisecond
		e.Position, e.ticket = int(problem.Position), problem.Ticket
		if problem.Message != "" {
			e.Message = problem.Message
		}
	}
	switch {
	case elsewhere != nil:
		e.Reason = NotLeader
		return verdict{kind: notHere, err: e, leader: elsewhere.LeaderAddress}
	case problem != nil && problem.Reason != "":
		switch e.Reason {
		case NotLeader:
			return verdict{kind: notHere, err: e}
		case lease.Overloaded:
			return verdict{kind: busy, err: e}
		case UnknownOutcome:
			return verdict{kind: doubtful, err: e}
		}
		return verdict{kind: refused, err: e}
	}
	return judgeCode(st.Code(), e, onWire)
}

// judgeCode sorts an answer without a typed detail: from the transport, a proxy or
// another kind of server.
func judgeCode(code codes.Code, e *Error, onWire bool) verdict {
	final := map[codes.Code]lease.Reason{
		codes.InvalidArgument: lease.Invalid, codes.OutOfRange: lease.Invalid, codes.Unimplemented: NotUpgraded,
		codes.NotFound: lease.Invalid, codes.FailedPrecondition: lease.Invalid, codes.AlreadyExists: lease.Invalid,
		codes.Unauthenticated: Unauthenticated, codes.PermissionDenied: lease.Forbidden,
	}
	if reason, ok := final[code]; ok {
		e.Reason, e.Final = reason, true
		return verdict{kind: refused, err: e}
	}
	if code == codes.ResourceExhausted {
		e.Reason = lease.Overloaded
		return verdict{kind: busy, err: e}
	}
	if !onWire {
		e.Reason = Unreachable
		return verdict{kind: notHere, err: e}
	}
	e.Reason = UnknownOutcome
	return verdict{kind: doubtful, err: e}
}

// certificateTrouble finds what crypto/tls says when the two ends do not accept each
// other: no other try changes it until somebody changes a file or a clock.
var certificateTrouble = regexp.MustCompile(`x509: |remote error: tls: .*(certificate|unknown authority)|first record does not look like a TLS handshake`)

// closedError is what calls on a closed session or client get.
func closedError(what string) *Error {
	return &Error{Reason: Closed, Message: what + " is closed", Final: true}
}

// giveUp is the error after the last try: by its nature unreachable or unknown.
func giveUp(last *Error, unknown bool, cause error) *Error {
	e := &Error{Reason: Unreachable, Cause: cause}
	if last != nil {
		e.Message, e.RetryAfter = last.Message, last.RetryAfter
		if last.Reason == lease.Overloaded {
			e.Reason = lease.Overloaded
		}
	}
	if unknown {
		e.Reason = UnknownOutcome
	}
	if e.Message == "" {
		e.Message = "no node of the cluster answered"
	}
	return e
}
