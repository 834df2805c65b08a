package offline

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Names that a token must carry.
const (
	Algorithm = "EdDSA"
	// Type says what kind of JWT it is, so that no other one of the same cluster is taken
	// for a seat.
	Type   = "seat+jwt"
	Issuer = "seatkeeper"
)

const (
	// MaxToken bounds a token in bytes; a full one has about 1,500.
	MaxToken = 8 << 10
	// Leeway is how far behind the cluster's calendar a holder's clock may be when the
	// token is new. It is not added to the end.
	Leeway = lease.CalendarSlack
)

// Claims are what a token says.
type Claims struct {
	Issuer string `json:"iss"`
	// Cluster is the id of the cluster that signed it.
	Cluster string `json:"cluster"`
	Tenant  string `json:"tenant"`
	Vendor  string `json:"vendor"`
	Licence string `json:"license"`
	Feature string `json:"feature"`
	Version string `json:"version"`
	Count   int    `json:"count"`
	// InstanceID binds the token to a workload; if it is empty User and Host bind it to
	// a person on a machine (an empty User to anybody there).
	InstanceID string `json:"instance_id,omitempty"`
	User       string `json:"user,omitempty"`
	Host       string `json:"host,omitempty"`
	// LeaseID and FencingToken name the lease that the cluster keeps for it.
	LeaseID      lease.ID    `json:"lease_id,string"`
	FencingToken lease.Token `json:"fencing_token,string"`
	// Times are Unix seconds.
	IssuedAt  int64 `json:"iat"`
	NotBefore int64 `json:"nbf"`
	Expires   int64 `json:"exp"`
}

// Ref names the lease.
func (c *Claims) Ref() lease.Ref { return lease.Ref{ID: c.LeaseID, Token: c.FencingToken} }

// Until is the first instant at which the token is worth nothing.
func (c *Claims) Until() time.Time { return time.Unix(c.Expires, 0).UTC() }

// Term is how long it was borrowed for.
func (c *Claims) Term() time.Duration { return time.Duration(c.Expires-c.IssuedAt) * time.Second }

// Holder is who wants to use a token.
type Holder struct{ User, Host, InstanceID string }

// Code says what is wrong with a token.
type Code string

// What can be wrong. Each is returned when the words beside it hold.
const (
	Malformed    Code = "malformed"     // it is no token of ours
	UnknownKey   Code = "unknown_key"   // signed with a key that is not among those known
	BadSignature Code = "bad_signature" // the signature is not of this text: it was tampered with
	NotYet       Code = "not_yet"       // it begins later than now: the clock is wrong
	Expired      Code = "expired"       // its end is over
	NotYours     Code = "not_yours"     // bound to another instance, user or host
	ClockBack    Code = "clock_back"    // the clock shows an earlier time than it did before
	Unreadable   Code = "unreadable"    // the file cannot be read or kept
)

// Error is the one error type of this package.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// CodeOf gives the code of an error; "" if it is none of this package.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func fail(code Code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

type header struct {
	Algorithm string `json:"alg"`
	Kid       string `json:"kid"`
	Type      string `json:"typ"`
	Critical  any    `json:"crit"`
}

// Read checks form and signature of a token, and gives its claims. It looks at neither
// times nor holder.
func Read(token string, keys Keys) (Claims, error) {
	parts := strings.Split(token, ".")
	if len(token) > MaxToken || len(parts) != 3 {
		return Claims{}, fail(Malformed, "this is no token of a borrowed seat")
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return Claims{}, fail(Malformed, "this is no token of a borrowed seat: it is damaged")
		}
	}
	var h header
	if json.Unmarshal(raw[0], &h) != nil || h.Algorithm != Algorithm || h.Type != Type || h.Critical != nil {
		return Claims{}, fail(Malformed, "this is no token of a borrowed seat: it is of another kind")
	}
	public, ok := keys.find(h.Kid)
	if !ok {
		return Claims{}, fail(UnknownKey, "the token was signed with the key %.40q, which is not known here", h.Kid)
	}
	if !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), raw[2]) {
		return Claims{}, fail(BadSignature, "the token was tampered with: its signature does not match")
	}
	var c Claims
	d := json.NewDecoder(bytes.NewReader(raw[1]))
	if err := d.Decode(&c); err != nil || c.Issuer != Issuer || c.Feature == "" || c.Count < 1 || c.LeaseID == 0 || c.Expires <= c.NotBefore {
		return Claims{}, fail(Malformed, "the token does not say which seat it is for")
	}
	return c, nil
}

// Peek gives the claims of a token that nobody has verified, to show them. ok is false if
// there are none to show.
func Peek(token string) (c Claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(token) > MaxToken || len(parts) != 3 {
		return c, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return Claims{}, false
	}
	return c, true
}

// At checks the token's times.
func (c *Claims) At(now time.Time) error {
	switch {
	case now.Unix() >= c.Expires:
		return fail(Expired, "the seat of %s was borrowed until %s; borrow it again", c.Feature, c.Until().Format(time.RFC3339))
	case now.Add(Leeway).Unix() < c.NotBefore:
		return fail(NotYet, "the token begins at %s, later than this clock shows: set the clock", time.Unix(c.NotBefore, 0).UTC().Format(time.RFC3339))
	}
	return nil
}

// For checks whether the token is the holder's. Host names are compared without case.
func (c *Claims) For(h Holder) error {
	switch {
	case c.InstanceID != "":
		if h.InstanceID != c.InstanceID {
			return fail(NotYours, "the seat of %s is bound to instance %s, not to this one", c.Feature, c.InstanceID)
		}
	case c.Host == "" || !strings.EqualFold(h.Host, c.Host), c.User != "" && h.User != c.User:
		return fail(NotYours, "the seat of %s is bound to %s@%s, not to %s@%s", c.Feature, c.User, c.Host, h.User, h.Host)
	}
	return nil
}
