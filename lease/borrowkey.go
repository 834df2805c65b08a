package lease

import "slices"

// The keys that tokens are signed with are part of the state, so they survive leaders,
// restarts and restores. They are made outside, at random, and come in by a command: the
// rules know no chance. The key that signs is the last of the list.

// MaxBorrowKeys bounds the keys that are kept because tokens they signed are still valid:
// a rotation each week, and the longest borrowing of some months.
const MaxBorrowKeys = 32

// BorrowKey is a key that signs tokens, or signed some that are still valid.
type BorrowKey struct {
	Kid    string
	Public [32]byte
	// Seed is the private half; zero in a key that signs no more.
	Seed    [32]byte
	Created Calendar
	// Last is when the last token that it signed expires.
	Last Calendar
}

// String keeps the private half out of whatever prints a key.
func (k BorrowKey) String() string { return "borrow key " + k.Kid }

// GoString does so for %#v.
func (k BorrowKey) GoString() string { return k.String() }

// RotateBorrowKey makes a new key the one that signs. The one before is kept, without its
// private half, until the last token it signed has expired.
type RotateBorrowKey struct {
	Kid          string
	Public, Seed [32]byte
	// IfNone: only the first key is wanted; one that is there stays.
	IfNone bool
	By     string // who asked, for the audit trail
}

func (RotateBorrowKey) isCommand() {}

// String keeps the private half out of whatever prints the command.
func (c RotateBorrowKey) String() string { return "new borrow key " + c.Kid }

// GoString does so for %#v.
func (c RotateBorrowKey) GoString() string { return c.String() }

// signingKey is the key that signs; nil before there is one.
func (t *tables) signingKey() *BorrowKey {
	if n := len(t.keys); n > 0 {
		return t.keys[n-1]
	}
	return nil
}

// signs notes that the signing key signs a token that is valid until then.
func (b *Book) signs(until Calendar) *BorrowKey {
	key := b.signingKey()
	if until > key.Last {
		longer := *key
		longer.Last = until
		b.keys = append(slices.Clone(b.keys[:len(b.keys)-1]), &longer)
	}
	return b.signingKey()
}

func (b *Book) rotateBorrowKey(c RotateBorrowKey) Reply {
	if r := checkName("key id", c.Kid, false); r != nil {
		return Reply{Refusal: r}
	}
	old := b.signingKey()
	if old != nil && c.IfNone {
		return Reply{}
	}
	var kept []*BorrowKey
	for _, k := range b.keys {
		if k.Kid == c.Kid {
			return Reply{Refusal: refuse(Invalid, "key %s is there already; nothing changed", c.Kid)}
		}
		if k.Last > b.Calendar() {
			public := *k
			public.Seed = [32]byte{}
			kept = append(kept, &public)
		}
	}
	if len(kept) >= MaxBorrowKeys {
		return Reply{Refusal: refuse(Overloaded, "tokens of %d older keys are still valid; rotate again when the first have expired", len(kept))}
	}
	b.keys = append(kept, &BorrowKey{Kid: c.Kid, Public: c.Public, Seed: c.Seed, Created: b.Calendar()})
	return Reply{}
}

// BorrowKeys lists the keys by which a token can be verified, the one that signs last,
// without private halves.
func (b *Book) BorrowKeys() []BorrowKey {
	var out []BorrowKey
	for _, k := range b.keys {
		if public := *k; public.Last > b.Calendar() || k == b.signingKey() {
			public.Seed = [32]byte{}
			out = append(out, public)
		}
	}
	return out
}

// BorrowSeed gives the private half of the key that signs, if it has this id. It is for
// signing only: not to be logged or kept.
func (b *Book) BorrowSeed(kid string) (seed [32]byte, ok bool) {
	if k := b.signingKey(); k != nil && k.Kid == kid {
		return k.Seed, true
	}
	return seed, false
}

// BorrowKeys gives the keys of a frozen ledger, with the private half of the last.
func (f *Frozen) BorrowKeys() []*BorrowKey { return f.t.keys }

// Overdrawn gives the overdrawn seats of a frozen ledger.
func (f *Frozen) Overdrawn() []Overdrawn { return f.t.overdrawn }

// BorrowKey adds a key; the one that signs comes last.
func (l *Loader) BorrowKey(k BorrowKey) {
	if k.Kid == "" || slices.ContainsFunc(l.b.keys, func(x *BorrowKey) bool { return x.Kid == k.Kid || x.Seed != [32]byte{} }) {
		l.fail("borrow key %q is empty, comes twice or after the one that signs", k.Kid)
	}
	l.b.keys = append(l.b.keys, &k)
}

// Overdrawn adds seats that were taken from a borrower at once.
func (l *Loader) Overdrawn(o Overdrawn) {
	if o.Feature == "" || o.Count < 1 || o.End < 0 {
		l.fail("overdrawn lease %d is not whole", o.ID)
	}
	l.b.overdrawn = append(l.b.overdrawn, o)
}

// keepKeys takes over what the ledger that is replaced knows of keys and overdrawn seats.
// If it is a later state of the same cluster it knows better; if not, its tokens can at
// least still be verified.
func (b *Book) keepKeys(old *Book, known bool) {
	if known {
		b.keys, b.overdrawn = old.keys, old.overdrawn
		return
	}
	var kept []*BorrowKey
	for _, k := range old.keys {
		if !slices.ContainsFunc(b.keys, func(x *BorrowKey) bool { return x.Kid == k.Kid }) && k.Last > b.Calendar() {
			public := *k
			public.Seed = [32]byte{}
			kept = append(kept, &public)
		}
	}
	b.keys = append(kept, b.keys...)
}
