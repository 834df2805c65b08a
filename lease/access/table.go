package access

import (
	"cmp"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/seatkeeper/seatkeeper/lease"
)

// MaxTokens bounds a table: each costs some 300 bytes on every node, and an installation
// has tens. One token per end user is what certificates are for.
const MaxTokens = 10_000

// resets is how many admins' tokens beyond MaxTokens a reset may make: a full table whose
// admin is lost could not be emptied otherwise.
const resets = 10

// Table is all tokens of a cluster. A nil table is empty.
type Table struct{ tokens map[string]*Token }

// Enforced says whether calls need a token: from the first token on. The last admin's
// token cannot be revoked, so this is never taken back.
func (t *Table) Enforced() bool { return t != nil && len(t.tokens) > 0 }

// Judge returns the token that this text is, or nil and why it is not accepted. The
// comparison takes the same time wherever the two differ.
func (t *Table) Judge(text string, now lease.Calendar) (token *Token, problem string) {
	id, digest, ok := Parse(text)
	if !ok {
		return nil, "this is no access token"
	}
	var found *Token
	if t != nil {
		found = t.tokens[id]
	}
	switch {
	case found == nil || subtle.ConstantTimeCompare(found.Digest[:], digest[:]) != 1:
		return nil, "this token is not known: it was revoked, or is of another cluster"
	case found.Expired(now):
		return nil, "this token has expired: ask for another one"
	}
	return found, ""
}

// Create adds a token. first asks for the one that begins it all: an admin's, and only
// while there is none. The same token again changes nothing.
func (t *Table) Create(x Token, first bool, now lease.Calendar) (*Table, *lease.Refusal) {
	if t == nil {
		t = &Table{}
	}
	x.Created = now
	if old := t.tokens[x.ID]; old != nil {
		if old.Digest == x.Digest {
			return t, nil // sent twice
		}
		return t, refuse(lease.Invalid, "there is a token with this id: create another one")
	}
	switch {
	case first && t.Enforced():
		return t, refuse(lease.Forbidden, "the first token was made before: ask an admin for one, or use seatkeeper token create with an admin's token; if all of those are lost, seatkeeper acl bootstrap --reset on the leader's machine")
	case first && (x.Role != Admin || x.Tenant != "" || x.User != "" || x.Expires != 0):
		return t, refuse(lease.Invalid, "the first token is an admin's, of no tenant or user, and does not expire")
	case !first && !t.Enforced():
		return t, refuse(lease.Invalid, "make the first token with seatkeeper acl bootstrap")
	case len(t.tokens) >= MaxTokens:
		return t, refuse(lease.Invalid, "there are %d tokens, more are not kept: revoke those that have expired", MaxTokens)
	}
	if problem := x.check(now); problem != "" {
		return t, refuse(lease.Invalid, "%s", problem)
	}
	return t.with(x), nil
}

// Reset adds an admin's token when all others are lost. Whoever asks has shown that the
// machine of the leader is theirs; the tokens that are there stay, to be listed and revoked.
// The same token again changes nothing.
func (t *Table) Reset(x Token, now lease.Calendar) (*Table, *lease.Refusal) {
	if t == nil {
		t = &Table{}
	}
	x.Created = now
	switch old := t.tokens[x.ID]; {
	case old != nil && old.Digest == x.Digest:
		return t, nil // sent twice
	case old != nil:
		return t, refuse(lease.Invalid, "there is a token with this id: create another one")
	case !x.rules() || x.User != "":
		return t, refuse(lease.Invalid, "a reset makes an admin's token, of no tenant or user, that does not expire")
	case len(t.tokens) >= MaxTokens+resets:
		return t, refuse(lease.Invalid, "there are %d tokens, more are not kept: revoke those that have expired", len(t.tokens))
	}
	if problem := x.check(now); problem != "" {
		return t, refuse(lease.Invalid, "%s", problem)
	}
	return t.with(x), nil
}

// with is the table and one token more.
func (t *Table) with(x Token) *Table {
	next := &Table{tokens: maps.Clone(t.tokens)}
	if next.tokens == nil {
		next.tokens = map[string]*Token{}
	}
	next.tokens[x.ID] = &x
	return next
}

func (x *Token) check(now lease.Calendar) string {
	if len(x.ID) != 2*IDBytes || x.Digest == (Digest{}) {
		return "a token needs an id and a digest"
	}
	if _, ok := roleNames[x.Role]; !ok {
		return "a token needs a role: viewer, operator, admin, vendor or client"
	}
	for what, s := range map[string]string{"tenant": x.Tenant, "user": x.User, "description": x.Description} {
		if len(s) > lease.MaxNameLen || strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Sprintf("the %s has at most %d bytes and no control characters", what, lease.MaxNameLen)
		}
	}
	if x.Expired(now) {
		return "the token would have expired already"
	}
	return ""
}

// Revoke takes a token away. The last token of an admin for the whole cluster stays: with
// it everybody would be shut out for good.
func (t *Table) Revoke(id string, now lease.Calendar) (*Table, *lease.Refusal) {
	if t == nil || t.tokens[id] == nil {
		return t, refuse(lease.Invalid, "no token has the id %.40q", id)
	}
	if x := t.tokens[id]; x.rules() {
		left := 0
		for _, other := range t.tokens {
			if other.rules() {
				left++
			}
		}
		if left == 1 {
			return t, refuse(lease.Forbidden, "this is the last token of an admin that does not expire: make another one first")
		}
	}
	next := &Table{tokens: maps.Clone(t.tokens)}
	delete(next.tokens, id)
	return next, nil
}

// rules says whether the token can make others, now and for ever.
func (x *Token) rules() bool { return x.Role == Admin && x.Tenant == "" && x.Expires == 0 }

// List returns all tokens, the oldest first.
func (t *Table) List() []Token {
	if t == nil {
		return nil
	}
	list := make([]Token, 0, len(t.tokens))
	for _, x := range t.tokens {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(a, b Token) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	return list
}

// Load makes a table of what a snapshot holds.
func Load(list []Token) (*Table, error) {
	t := &Table{tokens: make(map[string]*Token, len(list))}
	for i := range list {
		x := list[i]
		if problem := x.check(min(0, x.Expires)); problem != "" || t.tokens[x.ID] != nil {
			return nil, fmt.Errorf("snapshot: token %d is impossible or comes twice", i)
		}
		t.tokens[x.ID] = &x
	}
	if len(list) > MaxTokens+resets || len(list) > 0 && !slices.ContainsFunc(list, func(x Token) bool { return x.rules() }) {
		return nil, fmt.Errorf("snapshot: %d tokens, and none of an admin", len(list))
	}
	return t, nil
}

// After is the table after a restore. Within one cluster the tokens of now stay: a backup
// must not bring back what was revoked. A cluster that takes the place of another one
// takes over its tokens too, beside its own.
func (t *Table) After(backup *Table, same bool) *Table {
	if same && t.Enforced() || !backup.Enforced() {
		return t
	}
	next := &Table{tokens: maps.Clone(backup.tokens)}
	if t != nil {
		maps.Copy(next.tokens, t.tokens)
	}
	return next
}

func refuse(reason lease.Reason, format string, args ...any) *lease.Refusal {
	return &lease.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...), Final: true}
}
