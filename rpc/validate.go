package rpc

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

// What is checked here is the form of a request, so that nothing oversized or
// unprintable reaches the log. What a request may have is for package lease to say.

// looksAtStrings says that the handler of a message looks whether its strings are UTF-8, so that decoding need
// not: see package wire.
func looksAtStrings(m wire.Fast) bool {
	switch m.(type) {
	case *pb.PipelineRequest, *pb.CheckoutRequest, *pb.CheckinRequest, *pb.RenewRequest, *pb.RenewBatchRequest:
		return true
	}
	return false
}

// maxSecret bounds a session secret, in bytes; only its digest is kept.
const maxSecret = 256

func checkName(field, value string) error {
	if len(value) > lease.MaxNameLen {
		return invalid(fmt.Sprintf("%s is %d bytes long, at most %d are allowed", field, len(value), lease.MaxNameLen))
	}
	if !utf8.ValidString(value) {
		return invalid(field + " is not UTF-8")
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return invalid(field + " has a control character in it")
	}
	return nil
}

func checkNames(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := checkName(pairs[i], pairs[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// asked is what checkout and preview requests have in common.
type asked interface {
	GetFeature() string
	GetVersion() string
	GetCount() int32
	GetItems() []*pb.Item
	GetUser() string
	GetHost() string
	GetDisplay() string
	GetVendorDefined() string
	GetProject() string
}

// itemsOf reads one feature or a list. counted says whether the request names a
// count: left out it is 1, but a 0 that somebody wrote is an error.
func itemsOf(r asked, counted bool) ([]lease.Item, error) {
	switch {
	case len(r.GetItems()) > 0 && (r.GetFeature() != "" || r.GetVersion() != "" || counted):
		return nil, invalid("give feature, version and count, or items, not both")
	case len(r.GetItems()) > lease.MaxItems:
		return nil, invalid(fmt.Sprintf("%d items, at most %d are allowed", len(r.GetItems()), lease.MaxItems))
	case len(r.GetItems()) == 0:
		count := int32(1)
		if counted {
			count = r.GetCount()
		}
		if r.GetFeature() == "" {
			return nil, invalid("feature is missing")
		}
		item, err := itemOf(r.GetFeature(), r.GetVersion(), count)
		return []lease.Item{item}, err
	}
	items := make([]lease.Item, 0, len(r.GetItems()))
	for i, it := range r.GetItems() {
		count := it.GetCount()
		if count == 0 {
			count = 1 // here proto cannot tell 0 from nothing
		}
		if it.GetFeature() == "" {
			return nil, invalid(fmt.Sprintf("items[%d]: feature is missing", i))
		}
		item, err := itemOf(it.GetFeature(), it.GetVersion(), count)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func itemOf(feature, version string, count int32) (lease.Item, error) {
	if err := checkNames("feature", feature, "version", version); err != nil {
		return lease.Item{}, err
	}
	if count < 1 {
		return lease.Item{}, invalid(fmt.Sprintf("count is %d, want 1 or more", count))
	}
	return lease.Item{Feature: feature, Version: version, Count: int(count)}, nil
}

func principalOf(r asked, ip string) (lease.Principal, error) {
	err := checkNames("user", r.GetUser(), "host", r.GetHost(), "display", r.GetDisplay(),
		"vendor_defined", r.GetVendorDefined(), "project", r.GetProject())
	return lease.Principal{User: r.GetUser(), Host: r.GetHost(), IP: ip, Display: r.GetDisplay(),
		VendorDefined: r.GetVendorDefined(), Project: r.GetProject()}, err
}

func sessionOf(id string) (lease.SessionID, error) {
	sid, err := lease.ParseSessionID(id)
	if err != nil {
		return sid, invalid(err.Error())
	}
	return sid, nil
}

// sessionRef reads the session of a request and the proof that the caller owns it.
func sessionRef(id, secret string, incarnation, seq uint64) (lease.SessionRef, error) {
	if id == "" {
		return lease.SessionRef{}, invalid("session_id is missing")
	}
	sid, err := sessionOf(id)
	if err != nil {
		return lease.SessionRef{}, err
	}
	switch {
	case secret == "":
		return lease.SessionRef{}, invalid("session_secret is missing")
	case len(secret) > maxSecret:
		return lease.SessionRef{}, invalid(fmt.Sprintf("session_secret is %d bytes long, at most %d are allowed",
			len(secret), maxSecret))
	case !utf8.ValidString(secret):
		return lease.SessionRef{}, invalid("session_secret is not UTF-8")
	}
	return lease.SessionRef{ID: sid, Digest: digest(secret), Incarnation: incarnation, Seq: seq}, nil
}

func refsOf(ids []uint64, refs []*pb.LeaseRef) ([]lease.Ref, error) {
	if n := len(ids) + len(refs); n > lease.MaxLeasesPerSession {
		return nil, invalid(fmt.Sprintf("%d leases named, at most %d are allowed", n, lease.MaxLeasesPerSession))
	}
	out := make([]lease.Ref, 0, len(ids)+len(refs))
	for _, id := range ids {
		out = append(out, lease.Ref{ID: lease.ID(id)})
	}
	for _, r := range refs {
		out = append(out, lease.Ref{ID: lease.ID(r.GetId()), Token: lease.Token(r.GetFencingToken())})
	}
	for _, r := range out {
		if r.ID == 0 {
			return nil, invalid("lease id is 0")
		}
	}
	return out, nil
}
