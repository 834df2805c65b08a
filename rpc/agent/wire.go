package agent

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// The names are those of the cluster's API; 64-bit numbers are strings, as there.

// checkoutRequest is the body of POST /v1/checkout and /v1/hold.
type checkoutRequest struct {
	Feature       string `json:"feature"`
	Version       string `json:"version"`
	Count         int    `json:"count"`
	Items         []item `json:"items"`
	User          string `json:"user"`
	Host          string `json:"host"`
	Display       string `json:"display"`
	VendorDefined string `json:"vendor_defined"`
	Project       string `json:"project"`
	InstanceID    string `json:"instance_id"`
	Booking       string `json:"booking"`
	// SessionID names a session of before, or one that the caller minted (32 hexadecimal
	// digits), so that asking again after a lost answer takes nothing more.
	SessionID string `json:"session_id"`
	WaitMS    int64  `json:"wait_ms"`
	// PID is the process with which the seats go. TTLMS is their time to live without a
	// renewal; both may be given, and the first that is over counts.
	PID   int   `json:"pid"`
	TTLMS int64 `json:"ttl_ms"`
}

type item struct {
	Feature string `json:"feature"`
	Version string `json:"version"`
	Count   int    `json:"count"`
}

// sessionRequest is the body of POST /v1/renew and /v1/checkin. The session is named by
// its id or by the process that it belongs to.
type sessionRequest struct {
	SessionID string   `json:"session_id"`
	PID       int      `json:"pid"`
	LeaseIDs  []string `json:"lease_ids"`
}

// answer shows one session.
type answer struct {
	Session sessionView `json:"session"`
	// Valid says whether every seat that was granted and not returned may still be used.
	Valid  bool        `json:"valid"`
	Leases []leaseView `json:"leases"`
	Lost   []lostView  `json:"lost"`
}

// The states of a session. Only status shows one that is resuming: a call for the session
// itself waits, or is answered that the cluster is unreachable.
const (
	stateReady    = "ready"
	stateResuming = "resuming" // after a restart of the agent, or left to the next run
)

type sessionView struct {
	ID    string `json:"id"`
	Kind  kind   `json:"kind"`
	State string `json:"state"`
	User  string `json:"user"`
	Host  string `json:"host"`
	PID   int    `json:"pid,omitempty"`
	// TTLMS and TTLRemainingMS are of leases by the clock.
	TTLMS          int64 `json:"ttl_ms,omitempty"`
	TTLRemainingMS int64 `json:"ttl_remaining_ms,omitempty"`
	// Revision changes with each change of a lease; GET /v1/watch waits for another one.
	Revision uint64 `json:"revision,string"`
	// ClusterSession is what the cluster calls it, for operators.
	ClusterSession string `json:"cluster_session_id,omitempty"`
}

type leaseView struct {
	ID           uint64 `json:"id,string"`
	Handle       uint32 `json:"handle"`
	Feature      string `json:"feature"`
	Version      string `json:"version"`
	Count        int    `json:"count"`
	Seats        []int  `json:"seats"`
	FencingToken uint64 `json:"fencing_token,string"`
	State        string `json:"state"`
	Valid        bool   `json:"valid"`
	// RemainingMS is how long the seat may be used without another heartbeat.
	RemainingMS int64 `json:"remaining_ms"`
}

// lostView is a lease that was lost, or in a record one that was held.
type lostView struct {
	ID           uint64 `json:"id,string"`
	FencingToken uint64 `json:"fencing_token,string"`
	Feature      string `json:"feature"`
	Count        int    `json:"count,omitempty"`
	Reason       string `json:"reason,omitempty"`
}

type checkinAnswer struct {
	Released []lostView `json:"released"`
}

type statusAnswer struct {
	Agent    agentView `json:"agent"`
	Sessions []answer  `json:"sessions"`
}

type agentView struct {
	Version   string `json:"version"`
	PID       int    `json:"pid"`
	Host      string `json:"host"`
	Since     string `json:"since"`
	OnExit    string `json:"on_exit"`
	Sessions  int    `json:"sessions"`
	Resuming  int    `json:"resuming"`
	Leases    int    `json:"leases"`
	Lost      int    `json:"lost"`
	MaxAtOnce int    `json:"max_sessions"`
}

// problem is the one shape of errors, as the cluster's.
type problem struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Reason       string `json:"reason"`
	Final        bool   `json:"final"`
	RetryAfterMS uint32 `json:"retry_after_ms"`
}

// decode reads a request: one JSON object without unknown fields.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); errors.Is(more, io.EOF) {
			readAll(w)
			return nil
		}
		err = errors.New("more than one JSON object")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return refuse(lease.Invalid, "the request has more than %d bytes", maxBody)
	}
	if errors.Is(err, io.EOF) {
		return refuse(lease.Invalid, `the request is empty: send a JSON object, such as {"feature":"cad","pid":1234}`)
	}
	return refuse(lease.Invalid, "the request cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// readAll takes the time limit for the request off the connection: it has been read, and
// the answer may take longer.
func readAll(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }

// items are what a request asks for.
func (r *checkoutRequest) items() ([]client.Item, error) {
	list := r.Items
	if r.Feature != "" {
		if len(list) > 0 {
			return nil, refuse(lease.Invalid, "give feature or items, not both")
		}
		list = []item{{r.Feature, r.Version, r.Count}}
	}
	if len(list) == 0 || len(list) > lease.MaxItems {
		return nil, refuse(lease.Invalid, "name 1 to %d features", lease.MaxItems)
	}
	var items []client.Item
	for _, it := range list {
		if it.Feature == "" || it.Count < 0 {
			return nil, refuse(lease.Invalid, "an item needs a feature, and a count of 1 or more")
		}
		items = append(items, client.Item{Feature: it.Feature, Version: it.Version, Count: max(it.Count, 1)})
	}
	return items, nil
}

// wait and ttl are the times of a request, judged.
func (r *checkoutRequest) wait() (time.Duration, error) {
	if r.WaitMS < 0 || r.WaitMS > maxWait.Milliseconds() {
		return 0, refuse(lease.Invalid, "wait_ms %d: use 0 to %d, and ask again", r.WaitMS, maxWait.Milliseconds())
	}
	return time.Duration(r.WaitMS) * time.Millisecond, nil
}

func (r *checkoutRequest) ttl(std time.Duration) (time.Duration, error) {
	switch {
	case r.TTLMS == 0 && r.PID == 0:
		return std, nil
	case r.TTLMS == 0:
		return 0, nil // the process alone
	case r.TTLMS < MinTTL.Milliseconds() || r.TTLMS > MaxTTL.Milliseconds():
		return 0, refuse(lease.Invalid, "ttl_ms %d: use %d to %d", r.TTLMS, MinTTL.Milliseconds(), MaxTTL.Milliseconds())
	}
	return time.Duration(r.TTLMS) * time.Millisecond, nil
}
