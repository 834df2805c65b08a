package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Option changes how the package-level Checkout works.
type Option func(*checkoutOptions)

type checkoutOptions struct {
	session SessionConfig
	wait    time.Duration
	config  Config
}

// WithApplication remembers the session under this name (see StatePath): if the
// application crashes and is started again in time, it gets the same seat back. A
// second process of the same name gets a seat of its own.
func WithApplication(name string) Option {
	return func(o *checkoutOptions) { o.session.Application, o.session.FreshIfInUse = name, true }
}

// WithWait waits that long for a seat.
func WithWait(d time.Duration) Option { return func(o *checkoutOptions) { o.wait = d } }

// WithSession sets all that a session can be told.
func WithSession(cfg SessionConfig) Option { return func(o *checkoutOptions) { o.session = cfg } }

// WithConfig sets how the cluster is reached; what is empty comes from the environment.
func WithConfig(cfg Config) Option { return func(o *checkoutOptions) { o.config = cfg } }

// Checkout is the whole licence check: it takes one seat of a feature ("cad" or, with
// the least version, "cad:2026.1") from the cluster that the environment names and
// keeps it until Close, which also ends the session and the client behind it.
func Checkout(ctx context.Context, feature string, options ...Option) (*Lease, error) {
	var o checkoutOptions
	for _, set := range options {
		set(&o)
	}
	item, err := ParseItem(feature)
	if err != nil {
		return nil, err
	}
	cfg, err := o.config.WithEnv()
	if err != nil {
		return nil, err
	}
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	l, err := checkoutAlone(ctx, c, o, item)
	if err != nil {
		// ctx may have ended; what a request in doubt took is returned all the same.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout/5)
		defer cancel()
		_ = c.Close(end)
		return nil, err
	}
	return l, nil
}

func checkoutAlone(ctx context.Context, c *Client, o checkoutOptions, item Item) (*Lease, error) {
	s, err := c.OpenSession(ctx, o.session)
	if err != nil {
		return nil, err
	}
	leases, err := s.CheckoutWait(ctx, o.wait, item)
	if err != nil {
		return nil, err
	}
	if len(leases) != 1 {
		return nil, &Error{Reason: UnknownOutcome, Message: fmt.Sprintf("the node answered one feature with %d leases", len(leases))}
	}
	leases[0].owned = true
	return leases[0], nil
}

// ParseItem reads FEATURE or FEATURE:VERSION.
func ParseItem(s string) (Item, error) {
	item := Item{Count: 1}
	item.Feature, item.Version, _ = strings.Cut(s, ":")
	if item.Feature == "" {
		return Item{}, &Error{Reason: lease.Invalid, Message: fmt.Sprintf("%.60q: the feature is missing", s), Final: true}
	}
	return item, nil
}
