package checker

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

// The sequential specification of one pool, for porcupine: who sits where, and what may
// be answered. It knows no time: that a lease runs out is an operation of its own.

// stepKind tells the operations on a pool apart.
type stepKind int

const (
	stepGrant   stepKind = iota // seats were granted
	stepDeny                    // no_seats or sessions_exceeded
	stepRelease                 // leases ended
	stepHold                    // these leases were shown as held
	stepLook                    // so many seats were shown as in use
)

// step is one operation on one pool with what was answered.
type step struct {
	kind           stepKind
	session, group string
	lease, token   uint64 // grant; 0: seats that nobody was told of
	count          int
	seats          []int
	leases         []uint64          // release, hold
	owners         map[uint64]string // release by another: the sessions of leases
	gone           []uint64          // release: over when it was answered, since when is not known
	used           int               // look
	reason         string            // deny
	// optional: nobody knows whether or when it took effect.
	optional bool
	// known are the leases that their holder was told of; nil: all.
	known map[uint64]bool
}

// taken is one lease in a pool.
type taken struct {
	lease          uint64
	session, group string
	count          int
	seats          []int // unknown for seats that nobody was told of
	token          uint64
}

// poolState is an immutable set of leases.
type poolState struct {
	list []taken
	key  string
}

func newState(list []taken) poolState {
	slices.SortFunc(list, func(a, b taken) int {
		return cmp.Or(cmp.Compare(a.lease, b.lease), cmp.Compare(a.session, b.session))
	})
	var key []byte // the search makes millions of states: no fmt
	for _, t := range list {
		key = append(strconv.AppendUint(key, t.lease, 10), '/')
		key = append(append(key, t.session...), '/')
		key = append(strconv.AppendInt(key, int64(t.count), 10), ' ')
	}
	return poolState{list, string(key)}
}

// used is how many seats are charged: a group's largest lease each.
func (s poolState) used() int {
	n := 0
	for i, t := range s.list {
		if !slices.ContainsFunc(s.list[:i], func(o taken) bool { return o.group == t.group }) { // each group once
			_, charged := s.members(t.group)
			n += charged
		}
	}
	return n
}

func (s poolState) members(group string) (n, charged int) {
	for _, t := range s.list {
		if t.group == group {
			n, charged = n+1, max(charged, t.count)
		}
	}
	return n, charged
}

// find gives the place of a lease, -1 if it is not there.
func (s poolState) find(ok func(t taken) bool) int { return slices.IndexFunc(s.list, ok) }

func (s poolState) without(at int) poolState {
	return newState(slices.Delete(slices.Clone(s.list), at, at+1))
}

func (s poolState) with(t taken) poolState { return newState(append(slices.Clone(s.list), t)) }

// apply carries out a step; ok is false if it cannot have been answered so.
func (p *Pool) apply(s poolState, in step) (ok bool, next poolState) {
	switch in.kind {
	case stepGrant:
		return p.grant(s, in)
	case stepDeny:
		members, charged := s.members(in.group)
		full := s.used()+max(0, in.count-charged) > p.Total
		crowded := p.ShareMax > 0 && members >= p.ShareMax && strings.HasPrefix(in.group, "group ")
		if in.reason == "sessions_exceeded" {
			full = crowded
		}
		return full || in.optional, s
	case stepRelease:
		return p.release(s, in)
	case stepHold:
		for _, id := range in.leases {
			if s.find(func(t taken) bool { return t.lease == id }) < 0 && (in.known == nil || in.known[id]) {
				return in.optional, s
			}
		}
		return true, s
	case stepLook:
		return in.optional || s.used() == in.used, s
	}
	return false, s
}

func (p *Pool) grant(s poolState, in step) (bool, poolState) {
	if at := s.find(func(t taken) bool { return t.lease != 0 && t.lease == in.lease }); at >= 0 {
		return s.list[at].session == in.session, s
	}
	fresh := s
	if at := s.find(func(t taken) bool { return t.session == in.session }); at >= 0 {
		if s.list[at].lease != 0 || in.lease == 0 {
			return in.optional, s // it holds a lease of the pool, and gets no second one
		}
		fresh = s.without(at) // now the client was told of it
	}
	members, _ := fresh.members(in.group)
	next := fresh.with(taken{in.lease, in.session, in.group, in.count, in.seats, in.token})
	bad := next.used() > p.Total || p.ShareMax > 0 && members >= p.ShareMax && strings.HasPrefix(in.group, "group ")
	for _, n := range in.seats {
		bad = bad || n < 1 || n > p.Total
		for _, t := range fresh.list {
			bad = bad || t.group != in.group && slices.Contains(t.seats, n)
		}
	}
	if bad {
		return in.optional, s
	}
	return true, next
}

func (p *Pool) release(s poolState, in step) (bool, poolState) {
	next := s
	for _, id := range in.leases {
		at := next.find(func(t taken) bool { return t.lease == id && (id != 0 || t.session == in.session) })
		if at < 0 && in.known != nil && !in.known[id] {
			// Its grant was never answered: it can only be the one nobody was told of.
			owner := cmp.Or(in.owners[id], in.session)
			if at = next.find(func(t taken) bool { return t.lease == 0 && t.session == owner }); at < 0 {
				continue
			}
		}
		if at < 0 {
			if in.optional {
				continue
			}
			return false, s
		}
		next = next.without(at)
	}
	return true, next
}

// force carries out what a step says happened, legal or not.
func (p *Pool) force(s poolState, in step) poolState {
	if ok, next := p.apply(s, in); ok {
		return next
	}
	switch in.kind {
	case stepGrant:
		return s.with(taken{in.lease, in.session, in.group, in.count, in.seats, in.token})
	case stepRelease:
		in.optional = true
		_, next := p.release(s, in)
		return next
	}
	return s
}

// porcupineModel is the specification from a given state on. After budget steps it
// answers no to everything, which ends the search; over then says so.
func (p *Pool) porcupineModel(from poolState, budget int) (m porcupine.Model, over func() bool) {
	left := budget
	return porcupine.Model{
		Init: func() any { return from },
		Step: func(state, input, _ any) (bool, any) {
			if left--; left < 0 {
				return false, state
			}
			return p.apply(state.(poolState), input.(step))
		},
		Equal: func(a, b any) bool { return a.(poolState).key == b.(poolState).key },
		Hash: func(s any) uint64 {
			h := fnv.New64a()
			h.Write([]byte(s.(poolState).key))
			return h.Sum64()
		},
		DescribeOperation: func(input, _ any) string { return input.(step).String() },
		DescribeState: func(s any) string {
			x := s.(poolState)
			var parts []string
			for _, t := range x.list {
				parts = append(parts, fmt.Sprintf("lease %d: seats %v of %.8s", t.lease, t.seats, strings.TrimPrefix(t.session, "session ")))
			}
			return fmt.Sprintf("%d of %d in use<br>%s", x.used(), p.Total, strings.Join(parts, "<br>"))
		},
	}, func() bool { return left < 0 }
}

func (in step) String() string {
	maybe := ""
	if in.optional {
		maybe = " (perhaps)"
	}
	switch in.kind {
	case stepGrant:
		return fmt.Sprintf("checkout %d → lease %d, seats %v%s", in.count, in.lease, in.seats, maybe)
	case stepDeny:
		return fmt.Sprintf("checkout %d → %s%s", in.count, in.reason, maybe)
	case stepRelease:
		return fmt.Sprintf("ended %v%s", in.leases, maybe)
	case stepHold:
		return fmt.Sprintf("renewed %v%s", in.leases, maybe)
	}
	return fmt.Sprintf("in use: %d%s", in.used, maybe)
}
