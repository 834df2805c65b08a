package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// The numbers scripts rely on. A changed line here is a changed API.
const goldenFaces = `
booking_unknown 404 NOT_FOUND 0
borrow_none_left 409 RESOURCE_EXHAUSTED -67
borrow_off 403 PERMISSION_DENIED -68
borrow_too_long 422 OUT_OF_RANGE -104
excluded 403 PERMISSION_DENIED -38
fenced 409 ABORTED 0
forbidden 403 PERMISSION_DENIED 0
invalid 400 INVALID_ARGUMENT 0
license_expired 403 PERMISSION_DENIED -10
max_reached 409 RESOURCE_EXHAUSTED -87
no_feature 404 NOT_FOUND -5
no_seats 409 RESOURCE_EXHAUSTED -4
not_included 403 PERMISSION_DENIED -39
not_leader 503 UNAVAILABLE 0
not_started 403 PERMISSION_DENIED -31
not_upgraded 409 FAILED_PRECONDITION 0
overloaded 429 RESOURCE_EXHAUSTED 0
queued 202 RESOURCE_EXHAUSTED -35
reserved_for_others 409 RESOURCE_EXHAUSTED -101
session_unknown 404 NOT_FOUND 0
sessions_exceeded 409 RESOURCE_EXHAUSTED 0
stale_request 409 ABORTED 0
too_many_requested 422 OUT_OF_RANGE -26
too_soon 409 FAILED_PRECONDITION -64
unauthenticated 401 UNAUTHENTICATED 0
unknown_outcome 503 UNKNOWN 0
version 409 FAILED_PRECONDITION -21
`

func TestReasonsLookAsPublished(t *testing.T) {
	var lines []string
	for reason, look := range faces {
		lines = append(lines, fmt.Sprintf("%s %d %s %d", reason, look.HTTP, codeName(look.Code), reason.FlexNetNumber()))
		if look.Text == "" {
			t.Errorf("%s has no text", reason)
		}
	}
	slices.Sort(lines)
	if got := "\n" + strings.Join(lines, "\n") + "\n"; got != goldenFaces {
		t.Errorf("the table is now%s\nwant%s", got, goldenFaces)
	}
}

func TestRefusalsOfEveryReasonReachBothDoors(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	for reason, look := range faces {
		node.set(func() {
			node.fail = &lease.Refusal{Reason: reason, Message: "because", Final: true, RetryAfter: 1500 * time.Millisecond}
		})
		got := a.post(t, "/v1/checkout", `{"feature":"cad"}`)
		wantRefusal(t, got, look.HTTP, reason, "because")
		if got.header.Get("Retry-After") != "2" || got.body["retry_after_ms"] != 1500.0 || got.body["final"] != true {
			t.Errorf("%s: Retry-After %q, %s", reason, got.header.Get("Retry-After"), got.text)
		}
		if got.body["code"] != codeName(look.Code) {
			t.Errorf("%s: code %v, want %s", reason, got.body["code"], codeName(look.Code))
		}
	}
}

func TestOutcomesStayApart(t *testing.T) {
	leader := func() (fsm.Epoch, bool) {
		return fsm.Epoch{Index: 9, Node: "n2-00000002", APIAddress: "10.0.0.2:7800"}, true
	}
	none := func() (fsm.Epoch, bool) { return fsm.Epoch{Node: "n2-00000002", APIAddress: "10.0.0.2:7800"}, false }
	self := func() (fsm.Epoch, bool) { return fsm.Epoch{Node: "n1", APIAddress: "10.0.0.1:7800"}, true }
	tests := []struct {
		name   string
		err    error
		leader func() (fsm.Epoch, bool)
		code   codes.Code
		reason lease.Reason
		retry  bool
		to     string
	}{
		{"not the leader", &cluster.NotLeaderError{}, leader, codes.Unavailable, NotLeader, false, "10.0.0.2:7800"},
		{"a dead leader", &cluster.NotLeaderError{}, none, codes.Unavailable, NotLeader, true, ""},
		{"itself", &cluster.NotLeaderError{}, self, codes.Unavailable, NotLeader, true, ""},
		{"not applied", fmt.Errorf("x: %w", cluster.ErrNotApplied), leader, codes.Unavailable, NotLeader, true, ""},
		{"stopping", cluster.ErrStopped, leader, codes.Unavailable, NotLeader, true, ""},
		{"overloaded", cluster.ErrOverloaded, leader, codes.ResourceExhausted, lease.Overloaded, true, ""},
		{"unknown", cluster.ErrUnknown, leader, codes.Unknown, UnknownOutcome, false, ""},
		{"read timed out", context.DeadlineExceeded, leader, codes.Unavailable, NotLeader, true, ""},
		{"anything else", errors.New("disk on fire"), leader, codes.Unknown, UnknownOutcome, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := statusOf(tt.err, "n1", tt.leader)
			problem, to := details(st)
			if st.Code() != tt.code || problem.GetReason() != string(tt.reason) {
				t.Errorf("got %s %s, want %s %s", st.Code(), problem.GetReason(), tt.code, tt.reason)
			}
			if (problem.GetRetryAfterMs() > 0) != tt.retry || problem.GetFinal() {
				t.Errorf("retry after %d ms, final %v", problem.GetRetryAfterMs(), problem.GetFinal())
			}
			if to.GetLeaderAddress() != tt.to {
				t.Errorf("sent to %q, want %q", to.GetLeaderAddress(), tt.to)
			}
		})
	}
}
