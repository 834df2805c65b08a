package rpc

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// BorrowRenewAfter is the part of a borrowed seat's term after which its holder renews it,
// when it is online: half of it leaves the other half to come online again.
const BorrowRenewAfter = 2

// jwksMaxAge is how long a copy of the public keys may be kept: a rotated key is published
// before it signs anything that another copy would have to verify.
const jwksMaxAge = "max-age=300"

// borrowing serves seats that are taken to where there is no network.
type borrowing struct {
	pb.UnimplementedBorrowingServer
	s *Server
}

func (h *borrowing) Borrow(ctx context.Context, r *pb.BorrowRequest) (*pb.BorrowResponse, error) {
	cmd, err := borrowOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := h.ensureKey(ctx); err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	t, err := h.token(applied)
	if err != nil {
		return nil, err
	}
	return &pb.BorrowResponse{Lease: t.lease, Token: t.text, Until: t.until, RenewAfterMs: t.renewAfter, Jwks: t.jwks,
		RaftIndex: applied.Index, Term: applied.Term, Replayed: applied.Reply.Replayed}, nil
}

// borrowOf reads the command out of a request.
func borrowOf(ctx context.Context, r *pb.BorrowRequest) (cmd lease.Borrow, err error) {
	if r.GetFeature() == "" {
		return cmd, invalid("feature is missing")
	}
	count := r.GetCount()
	if count == 0 {
		count = 1 // proto cannot tell 0 from nothing
	}
	if cmd.Item, err = itemOf(r.GetFeature(), r.GetVersion(), count); err != nil {
		return cmd, err
	}
	if err = checkNames("user", r.GetUser(), "host", r.GetHost(), "display", r.GetDisplay(), "vendor_defined", r.GetVendorDefined(),
		"project", r.GetProject(), "instance_id", r.GetInstanceId()); err != nil {
		return cmd, err
	}
	cmd.Principal = lease.Principal{User: r.GetUser(), Host: r.GetHost(), IP: callerOf(ctx).IP, Display: r.GetDisplay(),
		VendorDefined: r.GetVendorDefined(), Project: r.GetProject()}
	cmd.InstanceID = r.GetInstanceId()
	if cmd.Tenant, err = tenantOf(r); err != nil {
		return cmd, err
	}
	if cmd.For, err = termOf(r.GetTermMs()); err != nil {
		return cmd, err
	}
	if r.GetSessionId() != "" {
		cmd.Session, err = sessionRef(r.GetSessionId(), r.GetSessionSecret(), r.GetIncarnation(), r.GetSeq())
		return cmd, err
	}
	if r.GetSessionSecret() != "" || r.GetIncarnation() != 0 || r.GetSeq() != 0 {
		return cmd, invalid("session_id is missing beside session_secret, incarnation or seq")
	}
	id, secret := mint() // nobody will ask by it again: the token does all that is left to do
	cmd.Session, cmd.Ephemeral = lease.SessionRef{ID: id, Digest: digest(secret)}, true
	return cmd, nil
}

// termOf reads how long a seat is wanted; what the rules allow is theirs to say.
func termOf(ms uint64) (time.Duration, error) {
	const most = 10 * 366 * 24 * time.Hour // far beyond any licence, and no overflow
	if ms == 0 {
		return 0, invalid("term_ms is missing: say for how long, in milliseconds")
	}
	return time.Duration(min(ms, uint64(most.Milliseconds()))) * time.Millisecond, nil
}

// issued is a token and what goes along with it.
type issued struct {
	lease      *pb.Lease
	text       string
	until      string
	renewAfter uint64
	jwks       string
}

// token signs what the rules granted.
func (h *borrowing) token(a cluster.Applied) (issued, error) {
	if len(a.Reply.Leases) != 1 || a.Reply.Lent == nil {
		return issued{}, &lease.Refusal{Reason: lease.Fenced, Message: "what this request borrowed has ended meanwhile; borrow again with a new number", Final: true}
	}
	l, lent := a.Reply.Leases[0], a.Reply.Lent
	var seed [32]byte
	var known bool
	var keys []lease.BorrowKey
	st := h.s.cfg.Node.ReadStale(func(b *lease.Book) {
		seed, known = b.BorrowSeed(lent.Kid)
		keys = b.BorrowKeys()
	})
	if !known { // replaced in this very moment
		return issued{}, &lease.Refusal{Reason: UnknownOutcome, Message: "the key was rotated meanwhile; send it again with the same seq"}
	}
	c := offline.Claims{
		Issuer: offline.Issuer, Cluster: st.ClusterID, Tenant: l.Tenant, Vendor: lent.Vendor, Licence: lent.Licence,
		Feature: l.Feature, Version: l.Version, Count: l.Count, InstanceID: l.InstanceID,
		LeaseID: l.ID, FencingToken: l.Token,
		IssuedAt: lent.Issued.Time().Unix(), NotBefore: lent.Issued.Time().Unix(), Expires: l.Until.Time().Unix(),
	}
	if l.InstanceID == "" {
		c.User, c.Host = l.Principal.User, l.Principal.Host
	}
	text, err := sign(&c, lent.Kid, seed)
	if err != nil {
		return issued{}, err
	}
	set, err := json.Marshal(jwks(keys))
	return issued{lease: leasePB(l), text: text, until: date(l.Until), jwks: string(set),
		renewAfter: uint64(max(0, l.Remaining/BorrowRenewAfter).Milliseconds())}, err
}

// sign makes the JWS.
func sign(c *offline.Claims, kid string, seed [32]byte) (string, error) {
	private := ed25519.NewKeyFromSeed(seed[:])
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: kid}},
		(&jose.SignerOptions{}).WithType(offline.Type))
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

func jwks(keys []lease.BorrowKey) offline.Keys {
	set := offline.Keys{Keys: []offline.Key{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, offline.NewKey(k.Kid, k.Public))
	}
	return set
}

// shown reads a token that a holder shows: its signature is the right to act for it. That
// it has expired does not matter here; the ledger knows whether its lease lives.
func (h *borrowing) shown(ctx context.Context, token string) (c offline.Claims, err error) {
	if token == "" {
		return c, invalid("token is missing")
	}
	var keys []lease.BorrowKey
	h.s.cfg.Node.ReadStale(func(b *lease.Book) { keys = b.BorrowKeys() })
	c, err = offline.Read(token, jwks(keys))
	switch offline.CodeOf(err) {
	case "":
		return c, err
	case offline.Malformed:
		return c, invalid(err.Error())
	case offline.UnknownKey:
		if !h.s.cfg.Node.Leading() { // perhaps it has just not heard of the key
			_, err := h.s.cfg.Node.Read(ctx, func(*lease.Book) {})
			return c, err
		}
	}
	return c, &lease.Refusal{Reason: lease.Forbidden, Message: err.Error(), Final: true}
}

func (h *borrowing) RenewBorrow(ctx context.Context, r *pb.RenewBorrowRequest) (*pb.RenewBorrowResponse, error) {
	c, err := h.shown(ctx, r.GetToken())
	if err != nil {
		return nil, err
	}
	term := c.Term()
	if r.GetTermMs() != 0 {
		if term, err = termOf(r.GetTermMs()); err != nil {
			return nil, err
		}
	}
	applied, err := h.s.propose(ctx, lease.RenewBorrow{Ref: c.Ref(), For: term})
	if err != nil {
		return nil, err
	}
	t, err := h.token(applied)
	if err != nil {
		return nil, err
	}
	return &pb.RenewBorrowResponse{Lease: t.lease, Token: t.text, Until: t.until, RenewAfterMs: t.renewAfter, Jwks: t.jwks,
		RaftIndex: applied.Index, Term: applied.Term}, nil
}

func (h *borrowing) ReturnBorrow(ctx context.Context, r *pb.ReturnBorrowRequest) (*pb.ReturnBorrowResponse, error) {
	c, err := h.shown(ctx, r.GetToken())
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, lease.ReturnEarly{Ref: c.Ref()})
	if err != nil {
		return nil, err
	}
	return &pb.ReturnBorrowResponse{Released: releasedPB(nil, applied.Reply.Released)[0], RaftIndex: applied.Index, Term: applied.Term}, nil
}

func (h *borrowing) RevokeBorrow(ctx context.Context, r *pb.RevokeBorrowRequest) (*pb.RevokeBorrowResponse, error) {
	tenant, err := tenantOf(r)
	if err != nil {
		return nil, err
	}
	if (r.GetLeaseId() == 0) == (r.GetHandle() == 0) {
		return nil, invalid("say which lease: lease_id or handle")
	}
	id := lease.ID(r.GetLeaseId())
	if id == 0 { // the id is for ever, a handle may be another's by the time it is applied
		var found []lease.Lease
		if _, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) {
			found, _ = b.Leases(lease.Filter{Tenant: tenant, Handle: lease.Handle(r.GetHandle())}, 0, 1)
		}); err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, invalid("no lease has this handle")
		}
		id = found[0].ID
	}
	applied, err := h.s.propose(ctx, lease.RevokeBorrow{Tenant: tenant, ID: id, AtOnce: r.GetNow(), By: callerOf(ctx).Name})
	if err != nil {
		return nil, err
	}
	answer := &pb.RevokeBorrowResponse{RaftIndex: applied.Index, Term: applied.Term}
	if l := applied.Reply.Leases; len(l) > 0 {
		answer.Quarantined = entryPB(l[0])
	}
	if l := applied.Reply.Released; len(l) > 0 {
		answer.Released = releasedPB(nil, l)[0]
	}
	return answer, nil
}

// BorrowKeys is for operators: it shows a rotation at once, where the JWK set of a node may
// be a moment behind.
func (h *borrowing) BorrowKeys(ctx context.Context, _ *pb.BorrowKeysRequest) (*pb.BorrowKeysResponse, error) {
	var keys []lease.BorrowKey
	if _, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) { keys = b.BorrowKeys() }); err != nil {
		return nil, err
	}
	answer := &pb.BorrowKeysResponse{}
	for i, k := range keys {
		answer.Keys = append(answer.Keys, &pb.BorrowKey{Kid: k.Kid, X: offline.NewKey(k.Kid, k.Public).X, Signs: i == len(keys)-1,
			Created: date(k.Created), ValidUntil: date(k.Last)})
	}
	return answer, nil
}

func (h *borrowing) RotateBorrowKey(ctx context.Context, _ *pb.RotateBorrowKeyRequest) (*pb.RotateBorrowKeyResponse, error) {
	cmd, err := newBorrowKey()
	if err != nil {
		return nil, err
	}
	cmd.By = callerOf(ctx).Name
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &pb.RotateBorrowKeyResponse{Kid: cmd.Kid, RaftIndex: applied.Index, Term: applied.Term}, nil
}

// ensureKey makes the first key when the first seat is borrowed.
func (h *borrowing) ensureKey(ctx context.Context) error {
	var have bool
	h.s.cfg.Node.ReadStale(func(b *lease.Book) { have = len(b.BorrowKeys()) > 0 })
	if have {
		return nil
	}
	cmd, err := newBorrowKey()
	if err != nil {
		return err
	}
	cmd.IfNone, cmd.By = true, callerOf(ctx).Name
	_, err = h.s.propose(ctx, cmd)
	return err
}

// newBorrowKey makes a key at random. That happens here and not in the rules, which know
// no chance; it is in the log and in snapshots from then on, and in no other place.
func newBorrowKey() (lease.RotateBorrowKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return lease.RotateBorrowKey{}, err
	}
	sum := sha256.Sum256(public)
	cmd := lease.RotateBorrowKey{Kid: base64.RawURLEncoding.EncodeToString(sum[:9])}
	copy(cmd.Public[:], public)
	copy(cmd.Seed[:], private.Seed())
	return cmd, nil
}

// serveJWKS publishes the public keys, as this node knows them.
func (s *Server) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	var keys []lease.BorrowKey
	s.cfg.Node.ReadStale(func(b *lease.Book) { keys = b.BorrowKeys() })
	text, err := json.Marshal(jwks(keys))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError) // cannot happen: plain strings
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", jwksMaxAge)
	_, _ = w.Write(append(text, '\n'))
}
