package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// BorrowConfig says what is borrowed and where it is kept.
type BorrowConfig struct {
	Item Item
	// For is how long the seat is wanted; licence and policy say how long it may be.
	For time.Duration
	// Principal is whom the seat is for; user and host default to this process's. With an
	// InstanceID the token is bound to that alone.
	Principal  lease.Principal
	InstanceID string
	// Folder keeps the seat; empty means BorrowFolder.
	Folder string
	// Held, if set, is the session whose seat is borrowed as it is: at no moment is it free.
	// A session that holds none of the item takes one.
	Held *HeldSession
}

// HeldSession is a session that holds a seat, and what shows the right to act for it.
type HeldSession struct {
	ID, Secret  string
	Incarnation uint64
}

// Borrow makes of a held seat one that may be used offline for the term, without a moment
// in which it is free. From then on this lease is over here (its reason is "borrowed"), and
// the seat is what the answer says: the session neither keeps nor returns it. After an error
// the lease is as it was; if the outcome is unknown, ask again. An empty folder means
// BorrowFolder.
func (l *Lease) Borrow(ctx context.Context, term time.Duration, folder string) (*BorrowedSeat, error) {
	s := l.s
	s.mu.Lock()
	if l.closed || s.over != nil || l.state(s.c.now()) == Lost {
		s.mu.Unlock()
		return nil, &Error{Reason: lease.Fenced, Message: "the lease is over; there is nothing to borrow", Final: true}
	}
	cfg := BorrowConfig{For: term, Folder: folder, Principal: s.cfg.Principal, InstanceID: s.cfg.InstanceID,
		Item: Item{Feature: l.h.feature, Version: l.h.version, Count: l.h.count},
		Held: &HeldSession{ID: s.id.String(), Secret: s.secret, Incarnation: s.incarnation}}
	s.mu.Unlock()
	seat, err := s.c.Borrow(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// As after a numbered request: a heartbeat that is under way may be of before, and must
	// not give the seat back because nobody holds it here.
	s.numbered += 2
	if h := s.held[seat.Claims.LeaseID]; h != nil {
		h.end(lease.Borrowed.String())
		delete(s.held, seat.Claims.LeaseID)
	}
	return seat, nil
}

// Borrowing is the generated client with this client's retries and redirects.
func (c *Client) Borrowing() pb.BorrowingClient { return pb.NewBorrowingClient(c) }

// Here is who this process is, as tokens are bound to it.
func Here(instance string) offline.Holder {
	p := fillPrincipal(lease.Principal{})
	return offline.Holder{User: p.User, Host: p.Host, InstanceID: instance}
}

// Borrow takes a seat that may be used offline, and keeps its token and the public keys.
// If an earlier call for the same seat ended without an answer, that one is finished: no
// second seat is taken. Errors: *Error, or a folder that cannot be written.
func (c *Client) Borrow(ctx context.Context, cfg BorrowConfig) (*BorrowedSeat, error) {
	cfg.Principal = fillPrincipal(cfg.Principal)
	if cfg.Folder == "" {
		var err error
		if cfg.Folder, err = BorrowFolder(); err != nil {
			return nil, err
		}
	}
	cfg.Item.Count = max(1, cfg.Item.Count)
	s, err := cfg.begin(c.cfg.Tenant)
	if err != nil {
		return nil, err
	}
	p := cfg.Principal
	sent := s.wall()
	seq, incarnation := uint64(1), uint64(0)
	if cfg.Held != nil { // not numbered: to borrow again what is borrowed changes nothing
		seq, incarnation = 0, cfg.Held.Incarnation
	}
	r, err := c.Borrowing().Borrow(ctx, &pb.BorrowRequest{
		Feature: cfg.Item.Feature, Version: cfg.Item.Version, Count: int32(min(cfg.Item.Count, math.MaxInt32)), TermMs: millisOf(cfg.For),
		User: p.User, Host: p.Host, Display: p.Display, VendorDefined: p.VendorDefined, Project: p.Project, InstanceId: cfg.InstanceID,
		SessionId: s.saved.SessionID, SessionSecret: s.saved.Secret, Seq: seq, Incarnation: incarnation, Tenant: c.cfg.Tenant,
	})
	if err != nil {
		if reason := ReasonOf(err); reason != UnknownOutcome && reason != Unreachable && reason != NotLeader {
			_ = s.forget() // a definite no
		}
		return nil, err
	}
	return s, s.take(r.GetToken(), r.GetJwks(), sent, r.GetLease())
}

// begin finds the request of the same seat that was never answered, or makes one and puts
// it on the disk.
func (cfg *BorrowConfig) begin(tenant string) (*BorrowedSeat, error) {
	want := asked{Feature: cfg.Item.Feature, Version: cfg.Item.Version, Count: cfg.Item.Count, Term: cfg.For, Instance: cfg.InstanceID,
		Holder: offline.Holder{User: cfg.Principal.User, Host: cfg.Principal.Host}, Tenant: tenant}
	seats, err := readSeats(cfg.Folder)
	if err != nil {
		return nil, err
	}
	for _, s := range seats {
		if s.saved.Token == "" && s.saved.Asked == want && s.saved.Held == (cfg.Held != nil) && (cfg.Held == nil || s.saved.SessionID == cfg.Held.ID) {
			return s, nil
		}
	}
	var id lease.SessionID
	var secret [secretLen]byte
	_, _ = rand.Read(id[:]) // crypto/rand does not fail
	_, _ = rand.Read(secret[:])
	s := newSeat(filepath.Join(cfg.Folder, id.String()+seatSuffix), offline.Keys{})
	s.saved = savedSeat{SessionID: id.String(), Secret: hex.EncodeToString(secret[:]), Asked: want}
	if cfg.Held != nil {
		s.saved.SessionID, s.saved.Secret, s.saved.Held = cfg.Held.ID, cfg.Held.Secret, true
	}
	if err := s.save(); err != nil {
		return nil, fmt.Errorf("the seat could not be kept, so it was not borrowed: %w", err)
	}
	return s, nil
}

// take keeps what an answer brought: the keys first, so that a token is never without.
func (s *BorrowedSeat) take(token, jwks string, sent time.Time, l *pb.Lease) error {
	keys, err := offline.ParseKeys([]byte(jwks))
	if err == nil {
		s.Claims, err = offline.Read(token, keys)
	}
	if err != nil {
		return fmt.Errorf("the cluster answered with a token that cannot be verified: %w", err)
	}
	if err := keepFile(filepath.Join(filepath.Dir(s.path), keysFile), []byte(jwks)); err != nil {
		return fmt.Errorf("keys of borrowed seats: %w", err)
	}
	seatFiles.Lock()
	defer seatFiles.Unlock()
	s.keys, s.saved.Token = keys, token
	s.saved.NotAfter = sent.Add(time.Duration(l.GetRemainingMs()) * time.Millisecond)
	if l.GetRemainingMs() == math.MaxUint32 { // more than the answer can say
		s.saved.NotAfter = s.Claims.Until()
	}
	s.saved.Seen = later(s.saved.Seen, sent)
	if err := s.save(); err != nil {
		return fmt.Errorf("file of the borrowed seat: %w", err)
	}
	return nil
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

func millisOf(d time.Duration) uint64 { return uint64(max(0, d).Milliseconds()) }

// RenewBorrowed moves the end of a borrowed seat to now + term, if that is later; a term
// of 0 is the one it was borrowed for.
func (c *Client) RenewBorrowed(ctx context.Context, s *BorrowedSeat, term time.Duration) error {
	sent := s.wall()
	r, err := c.Borrowing().RenewBorrow(ctx, &pb.RenewBorrowRequest{Token: s.saved.Token, TermMs: millisOf(term)})
	if err != nil {
		return err
	}
	return s.take(r.GetToken(), r.GetJwks(), sent, r.GetLease())
}

// KeepBorrowed renews a borrowed seat whenever half of its term is over and the cluster
// can be reached, until ctx ends or the cluster says no. Another goroutine may call Valid
// meanwhile on a seat read anew; this one is changed.
func (c *Client) KeepBorrowed(ctx context.Context, s *BorrowedSeat) error {
	for {
		wait := s.renewAt().Sub(s.wall())
		if wait <= 0 {
			err := c.RenewBorrowed(ctx, s, 0)
			switch e, _ := err.(*Error); {
			case err == nil:
				continue
			case e != nil && e.Final:
				return err
			}
			// Offline, most likely: a tenth of the term loses little of it.
			wait = s.Claims.Term() / 10
		}
		if err := sleep(ctx, max(wait, 100*time.Millisecond)); err != nil {
			return nil
		}
	}
}

// ReturnBorrowed gives a borrowed seat back. From its first moment the seat may not be used
// any more; if the cluster certainly did not hear of it, the seat stays as it was.
func (c *Client) ReturnBorrowed(ctx context.Context, s *BorrowedSeat) error {
	s.until = 0
	was := s.saved.Returning
	s.saved.Returning = true
	if err := s.save(); err != nil {
		return fmt.Errorf("file of the borrowed seat: %w", err)
	}
	_, err := c.Borrowing().ReturnBorrow(ctx, &pb.ReturnBorrowRequest{Token: s.saved.Token})
	switch {
	case err == nil, reasonIs(err, lease.Fenced): // returned, now or before, or its end is over
		return s.forget()
	case reasonIs(err, UnknownOutcome):
		return err
	}
	s.saved.Returning = was
	if e := s.save(); e != nil {
		return fmt.Errorf("file of the borrowed seat: %w", e)
	}
	return err
}
