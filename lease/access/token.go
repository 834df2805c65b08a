package access

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Role is what a token is for. The numbers are stored and never change.
type Role uint8

const (
	// Viewer looks, and changes nothing.
	Viewer Role = 1
	// Operator also runs things from day to day: kills, policies, seats for others.
	Operator Role = 2
	// Admin may do everything.
	Admin Role = 3
	// Vendor brings and takes away licences, and reads their use.
	Vendor Role = 4
	// Client takes seats and returns them.
	Client Role = 5
)

var roleNames = map[Role]string{Viewer: "viewer", Operator: "operator", Admin: "admin", Vendor: "vendor", Client: "client"}

func (r Role) String() string {
	if name, ok := roleNames[r]; ok {
		return name
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	for r, n := range roleNames {
		if n == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("role %.40q: use viewer, operator, admin, vendor or client", name)
}

// Digest is what is kept of a token.
type Digest [sha256.Size]byte

// Token is what the cluster knows of one.
type Token struct {
	// ID is 16 hexadecimal digits.
	ID     string
	Digest Digest
	Role   Role
	// Tenant and User are whom it acts for; empty means anybody.
	Tenant, User string
	Description  string
	Created      lease.Calendar
	// Expires is when it stops being accepted; 0: never.
	Expires lease.Calendar
}

// Expired says whether the token's time is over.
func (t *Token) Expired(now lease.Calendar) bool { return t.Expires != 0 && now >= t.Expires }

// Limits of a token.
const (
	// IDBytes and SecretBytes are how many random bytes go into a token.
	IDBytes     = 8
	SecretBytes = 32
	prefix      = "skt_" // lets scanners for lost secrets find it
	textLen     = len(prefix) + 2*IDBytes + 1 + 2*SecretBytes
)

// Text makes the text of a token from random bytes.
func Text(id [IDBytes]byte, secret [SecretBytes]byte) string {
	return prefix + hex.EncodeToString(id[:]) + "_" + hex.EncodeToString(secret[:])
}

// Parse takes the text of a token apart: its id, and the digest of the whole.
func Parse(text string) (id string, digest Digest, ok bool) {
	if len(text) != textLen || !strings.HasPrefix(text, prefix) {
		return "", Digest{}, false
	}
	id = text[len(prefix) : len(prefix)+2*IDBytes]
	if text[len(prefix)+2*IDBytes] != '_' {
		return "", Digest{}, false
	}
	return id, sha256.Sum256([]byte(text)), true
}
