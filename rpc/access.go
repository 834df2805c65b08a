package rpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// accessService serves Access.
type accessService struct {
	pb.UnimplementedAccessServer
	s *Server
}

// AclBootstrap makes the first token. Whoever comes first gets it: that is why a server
// that others can reach asks for client certificates, or is bootstrapped before.
func (h *accessService) AclBootstrap(ctx context.Context, r *pb.AclBootstrapRequest) (*pb.AclBootstrapResponse, error) {
	ask := fsm.CreateToken{Token: access.Token{Role: access.Admin, Description: r.GetDescription()}, First: true}
	if r.GetResetAdmin() {
		if err := h.confirmReset(ctx, r); err != nil {
			return nil, err
		}
		ask.First, ask.Reset = false, true
	}
	token, secret, err := h.create(ctx, r, ask)
	if err != nil {
		return nil, err
	}
	return &pb.AclBootstrapResponse{Token: token, Secret: secret}, nil
}

// confirmReset wants to be shown that the caller has the machine of this node, which leads.
// The log tells of each try.
func (h *accessService) confirmReset(ctx context.Context, r *pb.AclBootstrapRequest) error {
	if !h.s.cfg.Node.Leading() {
		return h.notHere(ctx)
	}
	table, _ := h.s.cfg.Node.Access()
	if slices.ContainsFunc(table.List(), func(x access.Token) bool {
		return x.ID == r.GetTokenId() && bytes.Equal(x.Digest[:], r.GetTokenDigest())
	}) {
		return nil // sent again: it was made, and the proof is used up
	}
	err := errors.New("this node allows none")
	if h.s.cfg.ConfirmReset != nil {
		err = h.s.cfg.ConfirmReset(r.GetTokenId(), r.GetTokenDigest())
	}
	log := h.s.cfg.Logger.With("from", callerOf(ctx).Name)
	if err != nil {
		log.Warn("an admin token was asked for by reset and refused", "error", err)
		return forbidden(fmt.Sprintf("no reset on %s, which leads: %v", h.s.cfg.Node.ID(), err))
	}
	log.Warn("an admin token is made by reset: whoever asks has this node's data directory", "token", r.GetTokenId())
	return nil
}

func (h *accessService) TokenCreate(ctx context.Context, r *pb.TokenCreateRequest) (*pb.TokenCreateResponse, error) {
	role, err := access.ParseRole(r.GetRole())
	if err != nil {
		return nil, invalid(err.Error())
	}
	x := access.Token{Role: role, Tenant: r.GetTenant(), User: r.GetUser(), Description: r.GetDescription()}
	if r.GetExpiresInS() > 0 {
		_, today := h.s.cfg.Node.Access()
		x.Expires = today + lease.Calendar(time.Duration(r.GetExpiresInS())*time.Second/time.Millisecond)
	}
	token, secret, err := h.create(ctx, r, fsm.CreateToken{Token: x})
	if err != nil {
		return nil, err
	}
	return &pb.TokenCreateResponse{Token: token, Secret: secret}, nil
}

// minted is what a caller says of a token that it has minted itself.
type minted interface {
	GetTokenId() string
	GetTokenDigest() []byte
}

// create makes a token and returns its text, unless the caller has minted it. The text is
// in the answer and nowhere else: what is proposed, and so logged, stored and replicated,
// has its digest.
func (h *accessService) create(ctx context.Context, by minted, ask fsm.CreateToken) (*pb.AccessToken, string, error) {
	x := ask.Token
	if !h.s.cfg.Node.Leading() {
		return nil, "", h.notHere(ctx)
	}
	if err := checkNames("tenant", x.Tenant, "user", x.User, "description", x.Description); err != nil {
		return nil, "", err
	}
	text := ""
	switch id, digest := by.GetTokenId(), by.GetTokenDigest(); {
	case id == "" && len(digest) == 0:
		var id [access.IDBytes]byte
		var secret [access.SecretBytes]byte
		rand.Read(id[:])
		rand.Read(secret[:])
		text = access.Text(id, secret)
		x.ID, x.Digest, _ = access.Parse(text)
	case !hexID.MatchString(id) || len(digest) != len(x.Digest):
		return nil, "", invalid("token_id has 16 hexadecimal digits, token_digest the 32 bytes of a SHA-256")
	default:
		x.ID = id
		copy(x.Digest[:], digest)
	}
	ask.Token, ask.By = x, callerOf(ctx).Name
	if _, err := h.s.propose(ctx, ask); err != nil {
		return nil, "", err
	}
	table, today := h.s.cfg.Node.Access()
	for _, kept := range table.List() {
		if kept.ID == x.ID {
			x = kept // with the date it was made
		}
	}
	return tokenPB(x, today), text, nil
}

var hexID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// notHere sends the caller to the leader.
func (h *accessService) notHere(ctx context.Context) error {
	_, err := h.s.cfg.Node.Read(ctx, func(*lease.Book) {})
	return err
}

func (h *accessService) TokenList(ctx context.Context, _ *pb.TokenListRequest) (*pb.TokenListResponse, error) {
	if _, err := h.s.cfg.Node.Read(ctx, func(*lease.Book) {}); err != nil { // the table is then as new as that
		return nil, err
	}
	table, today := h.s.cfg.Node.Access()
	answer := &pb.TokenListResponse{}
	for _, x := range table.List() {
		answer.Tokens = append(answer.Tokens, tokenPB(x, today))
	}
	return answer, nil
}

func (h *accessService) TokenRevoke(ctx context.Context, r *pb.TokenRevokeRequest) (*pb.TokenRevokeResponse, error) {
	if r.GetId() == "" {
		return nil, invalid("id is missing: seatkeeper token list shows them")
	}
	if len(r.GetId()) > 2*access.IDBytes {
		return nil, invalid("id is the token's short id, never the token itself") // which must not reach the log
	}
	if _, err := h.s.propose(ctx, fsm.RevokeToken{ID: r.GetId(), By: callerOf(ctx).Name}); err != nil {
		return nil, err
	}
	return &pb.TokenRevokeResponse{}, nil
}

func (h *accessService) WhoAmI(ctx context.Context, _ *pb.WhoAmIRequest) (*pb.WhoAmIResponse, error) {
	who := callerOf(ctx)
	table, today := h.s.cfg.Node.Access()
	answer := &pb.WhoAmIResponse{Name: who.Name, User: who.User, Enforced: table.Enforced() || h.s.cfg.TokensRequired}
	if who.Token != nil {
		x := tokenPB(*who.Token, today)
		answer.Role, answer.Tenant, answer.Expires = x.Role, x.Tenant, x.Expires
	}
	return answer, nil
}

func tokenPB(x access.Token, today lease.Calendar) *pb.AccessToken {
	return &pb.AccessToken{Id: x.ID, Role: x.Role.String(), Tenant: x.Tenant, User: x.User, Description: x.Description,
		Created: date(x.Created), Expires: date(x.Expires), Expired: x.Expired(today)}
}
