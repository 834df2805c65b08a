package fsm

import (
	"errors"
	"fmt"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// CreateToken adds an access token; First asks for the one that begins it all, Reset for an
// admin's in the place of lost ones. Only the digest of the token is in the command. To the
// rules of seats it is a Tick.
type CreateToken struct {
	lease.Tick
	Token        access.Token
	First, Reset bool
	By           string // who asked, for the audit trail
}

// RevokeToken takes an access token away. To the rules of seats it is a Tick.
type RevokeToken struct {
	lease.Tick
	ID string
	By string
}

// Access returns the access tokens and the date that their ends are judged by. It takes
// no lock: every request of the API asks.
func (f *FSM) Access() (*access.Table, lease.Calendar) {
	return f.tokens.Load(), lease.Calendar(f.today.Load())
}

// carryOutAccess applies a command about tokens; false: it is about something else.
func (f *FSM) carryOutAccess(cmd lease.Command) (lease.Reply, bool) {
	var table *access.Table
	var refusal *lease.Refusal
	switch c := cmd.(type) {
	case CreateToken:
		if c.Reset {
			table, refusal = f.tokens.Load().Reset(c.Token, f.book.Calendar())
			break
		}
		table, refusal = f.tokens.Load().Create(c.Token, c.First, f.book.Calendar())
	case RevokeToken:
		table, refusal = f.tokens.Load().Revoke(c.ID, f.book.Calendar())
	default:
		return lease.Reply{}, false
	}
	if refusal == nil {
		f.tokens.Store(table)
	}
	return lease.Reply{Refusal: refusal}, true
}

// toAccess encodes a command about tokens, nil for any other.
func toAccess(cmd lease.Command) *logv1.Command {
	switch c := cmd.(type) {
	case CreateToken:
		return &logv1.Command{Kind: &logv1.Command_CreateToken{CreateToken: &logv1.CreateToken{Token: toToken(&c.Token), First: c.First, ResetAdmin: c.Reset, By: c.By}}}
	case RevokeToken:
		return &logv1.Command{Kind: &logv1.Command_RevokeToken{RevokeToken: &logv1.RevokeToken{Id: c.ID, By: c.By}}}
	}
	return nil
}

// fromAccess gives nil for a command about something else.
func fromAccess(pb *logv1.Command) lease.Command {
	switch k := pb.GetKind().(type) {
	case *logv1.Command_CreateToken:
		return CreateToken{Token: fromToken(k.CreateToken.GetToken()), First: k.CreateToken.GetFirst(), Reset: k.CreateToken.GetResetAdmin(), By: k.CreateToken.GetBy()}
	case *logv1.Command_RevokeToken:
		return RevokeToken{ID: k.RevokeToken.GetId(), By: k.RevokeToken.GetBy()}
	}
	return nil
}

func toToken(t *access.Token) *logv1.Token {
	return &logv1.Token{Id: t.ID, Digest: t.Digest[:], Role: uint32(t.Role), Tenant: t.Tenant, User: t.User,
		Description: t.Description, Created: int64(t.Created), Expires: int64(t.Expires)}
}

func fromToken(x *logv1.Token) access.Token {
	t := access.Token{ID: x.GetId(), Role: access.Role(min(x.GetRole(), 255)), Tenant: x.GetTenant(), User: x.GetUser(),
		Description: x.GetDescription(), Created: lease.Calendar(x.GetCreated()), Expires: lease.Calendar(x.GetExpires())}
	copy(t.Digest[:], x.GetDigest())
	return t
}

// putTokens writes the table, of which nothing is there as long as it is empty.
func putTokens(w *recordWriter, t *access.Table) {
	for _, x := range t.List() {
		w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Token{Token: toToken(&x)}})
	}
}

// loadTokens makes the table of what a snapshot held; nil if it held none.
func loadTokens(list []access.Token) (*access.Table, error) {
	if len(list) == 0 {
		return nil, nil
	}
	return access.Load(list)
}

var errEmptyToken = errors.New("snapshot: an empty token")

func readToken(x *logv1.Token) (access.Token, error) {
	if x == nil || len(x.Digest) != len(access.Digest{}) {
		return access.Token{}, errEmptyToken
	}
	return fromToken(x), nil
}

// auditAccess shows a command about tokens without anything that could be used.
func auditAccess(cmd lease.Command) (AuditCommand, bool) {
	switch c := cmd.(type) {
	case CreateToken:
		kind := "create_token"
		if c.Reset {
			kind = "reset_admin_token"
		}
		return AuditCommand{Kind: kind, Tenant: c.Token.Tenant, By: c.By, Access: fmt.Sprintf("%s %s", c.Token.ID, c.Token.Role)}, true
	case RevokeToken:
		return AuditCommand{Kind: "revoke_token", By: c.By, Access: c.ID}, true
	}
	return AuditCommand{}, false
}
