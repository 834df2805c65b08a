package workload

import "github.com/seatkeeper/seatkeeper/rpc/client"

// Reasons that workers act on, as the API spells them.
const (
	sessionUnknown = "session_unknown"
	fenced         = "fenced"
	staleRequest   = "stale_request"
)

// setReason spells a reason into an error: its type has a name in a room that the
// harness does not know.
func setReason(e *client.Error, text string) { spell(&e.Reason, text) }

func spell[R ~string](r *R, text string) { *r = R(text) }

// reasonOf is the reason of an error as the API spells it.
func reasonOf(err error) string { return string(client.ReasonOf(err)) }
