package lease_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// program makes random commands and runs them against the Book and the model.
type program struct {
	rnd      *rand.Rand
	book     *lease.Book
	model    *model
	watch    *watch
	index    uint64
	sent     []lease.Command // to be sent again
	clients  []*client
	dateJump bool // the last wall clock was wrong
	blind    bool // judge by the invariants alone
	features []string
	ents     func(p *program, id string) []lease.Entitlement
	trace    []string
	stats    map[string]int
}

// client is what a client remembers between its requests.
type client struct {
	ref  lease.SessionRef
	who  lease.Principal
	held []lease.Ref
}

func newProgram(seed uint64) *program {
	p := &program{rnd: rand.New(rand.NewPCG(seed, 0)), book: lease.NewBook(), model: newModel(), stats: map[string]int{}, ents: simpleLicence,
		features: []string{"cad", "cad", "cad", "mesh", "mesh", "solver", "late", "none"}}
	for n := range 14 {
		s := session(byte(n + 1))
		p.clients = append(p.clients, &client{ref: s, who: p.principal(n)})
	}
	p.watch = newWatch(p.book)
	return p
}

func (p *program) principal(n int) lease.Principal {
	who := lease.Principal{User: fmt.Sprint("u", n%3), Host: fmt.Sprint("h", n%10/9)}
	switch n % 7 {
	case 5:
		who.User = "" // shares with nobody
	case 6:
		who.Display = ":0"
	}
	return who
}

func (p *program) chance(n int) bool { return p.rnd.IntN(n) == 0 }

func oneOf[T any](p *program, list ...T) T { return list[p.rnd.IntN(len(list))] }

// run gives the first difference or broken invariant, with the last commands before it.
func (p *program) run(steps int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
		if err != nil {
			err = fmt.Errorf("%w\nafter:\n%s", err, strings.Join(p.trace[max(0, len(p.trace)-12):], "\n"))
		}
	}()
	p.pass(0)
	for _, id := range []string{"L-1", "L-2"} {
		if err := p.do(p.install(id, false)); err != nil {
			return err
		}
	}
	for range steps {
		if p.chance(3) {
			p.pass(oneOf(p, time.Duration(p.rnd.Int64N(int64(5*time.Second))), 10*time.Second, 40*time.Second, time.Minute))
		}
		if p.chance(80) {
			p.pass(time.Duration(p.rnd.Int64N(int64(6 * time.Minute))))
		}
		if p.chance(10) {
			if err := p.sweep(); err != nil {
				return err
			}
		}
		if err := p.do(p.next()); err != nil {
			return err
		}
	}
	return nil
}

// pass lets time pass on both sides. Now and then the wall clock is wrong for once.
func (p *program) pass(d time.Duration) {
	before := p.model.now
	p.model.now = p.model.now.Add(d)
	ms := func(t lease.Time) lease.Calendar { return lease.Calendar(t / 1e6) }
	wall := launch + ms(p.model.now)
	switch {
	case p.dateJump || d == 0 || !p.chance(6):
		p.model.calendar, p.dateJump = wall, false
	case p.chance(2):
		wall -= lease.Calendar(p.rnd.IntN(1e10))
		p.dateJump = true
	default: // held: the calendar goes on with cluster time
		wall += lease.Calendar(1e7 + p.rnd.IntN(1e10))
		p.model.calendar += ms(p.model.now) - ms(before)
		p.dateJump = true
	}
	p.book.Advance(p.model.now, wall)
	p.trace = append(p.trace, fmt.Sprintf("  time passes to %v", time.Duration(p.model.now)))
}

// sweep does what a leader's expirer does, and sometimes gets it wrong first.
func (p *program) sweep() error {
	for {
		due := p.book.Due(3)
		for _, cmd := range due {
			if e, ok := cmd.(lease.Expire); ok && p.chance(3) {
				switch p.rnd.IntN(3) {
				case 0:
					e.Token += lease.Token(1 + p.rnd.IntN(3))
				case 1:
					e.Rev--
				case 2:
					e.Rev++
				}
				if err := p.do(e); err != nil {
					return err
				}
			}
			if err := p.do(cmd); err != nil {
				return err
			}
		}
		if len(due) == 0 {
			break
		}
	}
	if err := p.watch.checkL7(); err != nil {
		return err
	}
	return p.watch.checkI4Due()
}

// next makes a command.
func (p *program) next() lease.Command {
	if len(p.sent) > 0 && p.chance(6) { // a duplicate, mostly of late
		back := 1 + p.rnd.IntN(oneOf(p, 1, 3, 40))
		return p.sent[max(0, len(p.sent)-back)]
	}
	c := oneOf(p, p.clients...)
	switch n := p.rnd.IntN(100); {
	case n < 45:
		return p.checkout(c)
	case n < 48:
		x := lease.RenewMany{}
		for range 1 + p.rnd.IntN(4) {
			ref := p.asks(oneOf(p, p.clients...), false)
			x.Sessions = append(x.Sessions, lease.Heartbeat{ID: ref.ID, Digest: ref.Digest, Incarnation: ref.Incarnation})
		}
		return x
	case n < 65:
		return lease.Renew{Session: p.asks(c, false), Held: p.refs(c)}
	case n < 82:
		x := lease.CheckIn{Session: p.asks(c, true), Refs: p.refs(c), Close: p.chance(4), Reason: oneOf(p, lease.Release(0), lease.ReleasedClientExit, lease.ReleasedByAdmin)}
		return x
	case n < 87:
		return p.forgedExpire()
	case n < 90:
		id, rev := c.ref.ID, uint64(p.rnd.IntN(4))
		if s, ok := p.watch.after.sessions[id]; ok && p.chance(2) {
			rev = s.Rev
		}
		return lease.ExpireSession{ID: id, Rev: rev}
	case n < 93:
		return lease.Kill{Refs: p.refs(oneOf(p, p.clients...)), By: "root"}
	case n < 96:
		return p.install(oneOf(p, "L-1", "L-2", "L-3"), p.chance(2))
	case n < 98:
		return lease.RemoveLicence{Tenant: "default", ID: oneOf(p, "L-1", "L-2", "L-3", "L-4")}
	case n < 99 && p.chance(4):
		return lease.Fence{}
	}
	return lease.Tick{}
}

// asks is how the client names its session this time: mostly right.
func (p *program) asks(c *client, numbered bool) lease.SessionRef {
	ref := c.ref
	ref.Seq = 0
	switch n := p.rnd.IntN(40); {
	case n == 0:
		ref.Digest[0]++
	case n == 1:
		ref.Incarnation = 0
	case n == 2 && c.ref.Incarnation > 1:
		ref.Incarnation--
	case n <= 4: // the process starts again
		c.ref.Incarnation++
		c.ref.Seq = 0
		ref = c.ref
	case n == 5 && c.ref.Seq > 1: // late
		ref.Seq = c.ref.Seq - 1
		return ref
	}
	if _, live := p.watch.after.sessions[ref.ID]; !live {
		c.ref.Seq = 0
	}
	if numbered && !p.chance(4) {
		c.ref.Seq++
		ref.Seq = c.ref.Seq
	}
	return ref
}

func (p *program) checkout(c *client) lease.Checkout {
	x := lease.Checkout{
		Tenant: oneOf(p, "default", "default", "default", ""), Session: p.asks(c, true), Principal: c.who,
		InstanceID: "job", Ephemeral: p.chance(10), Tentative: p.chance(5),
	}
	switch p.rnd.IntN(60) {
	case 0:
		x.Tenant = "other"
	case 1:
		x.Principal.Host = strings.Repeat("h", 129)
	}
	for range oneOf(p, 1, 1, 1, 1, 2, 3) {
		it := lease.Item{Feature: oneOf(p, p.features...), Version: oneOf(p, "", "", "1", "2", "3"), Count: oneOf(p, 1, 1, 1, 2, 3)}
		switch p.rnd.IntN(60) {
		case 0:
			it.Count = oneOf(p, 0, -1, 9, lease.MaxCount, lease.MaxCount+1)
		case 1:
			it.Version = "one"
		}
		x.Items = append(x.Items, it)
	}
	return x
}

// refs is what the client believes it holds, sometimes wrongly; often nothing.
func (p *program) refs(c *client) []lease.Ref {
	if p.chance(2) {
		return nil
	}
	refs := slices.Clone(c.held)
	if p.chance(3) && len(refs) > 1 {
		refs = refs[:1]
	}
	if p.chance(6) {
		refs = append(refs, oneOf(p, p.clients...).held...)
	}
	for i := range refs {
		switch p.rnd.IntN(12) {
		case 0:
			refs[i].Token = 0
		case 1:
			refs[i].Token += lease.Token(1 + p.rnd.IntN(2))
		case 2:
			refs[i].ID ^= 1 << oneOf(p, 0, 24)
		}
	}
	return refs
}

// forgedExpire names a live lease, early or wrongly.
func (p *program) forgedExpire() lease.Command {
	all, _ := p.book.Leases(lease.Filter{}, 0, 100)
	if len(all) == 0 {
		return lease.Expire{Ref: lease.Ref{ID: 1, Token: 1}}
	}
	l := oneOf(p, all...)
	return lease.Expire{Ref: lease.Ref{ID: l.ID, Token: l.Token + lease.Token(oneOf(p, 0, 0, 1))}, Rev: l.Rev - uint64(oneOf(p, 0, 0, 1))}
}

// install makes one of some licences that fit together in changing ways.
func (p *program) install(id string, replace bool) lease.InstallLicence {
	l := licence(id, p.ents(p, id)...)
	if p.chance(8) {
		l.Entitlements[0].Serial = "the-same-for-all"
	}
	return lease.InstallLicence{Licence: l, Replace: replace}
}

func simpleLicence(p *program, id string) []lease.Entitlement {
	cad := lease.Entitlement{Feature: "cad", Version: oneOf(p, "1", "1", "3"), Count: 1 + p.rnd.IntN(4), Share: lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 3}}
	cad2 := lease.Entitlement{Feature: "cad", Version: "2.0", Count: 2}
	mesh := lease.Entitlement{Feature: "mesh", Version: "1", Count: 1 + p.rnd.IntN(5), Profile: lease.Profiles["ci"], Share: lease.ShareRule{By: lease.MaskUser, MaxSessions: 1}}
	solver := lease.Entitlement{Feature: "solver", Version: "1", Count: 3, Profile: lease.Profiles["lan"], Expiry: launch + lease.Calendar(p.rnd.IntN(6e7)) + 1}
	late := lease.Entitlement{Feature: "late", Version: "1", Count: 2, Profile: lease.Profile{Lifespan: time.Second}, Start: launch + lease.Calendar(p.rnd.IntN(6e7))}
	return map[string][]lease.Entitlement{"L-1": {cad, mesh, late}, "L-2": {cad2, solver}, "L-3": {cad, mesh}}[id]
}

// do runs one command on both sides.
func (p *program) do(cmd lease.Command) error {
	p.sent = append(p.sent, cmd)
	p.trace = append(p.trace, fmt.Sprintf("  %T %+v", cmd, cmd))
	p.watch.advance()
	preview, granted, comparable := p.preview(cmd)
	p.index += uint64(p.rnd.IntN(2)) // several commands may share an entry
	got := p.book.Apply(p.index, cmd)
	if p.blind {
		defer p.learn(cmd, got)
		if err := p.watch.saw(cmd, got); err != nil || !comparable {
			return err
		}
		return previewHeld(preview, granted, got)
	}
	want := p.model.apply(p.index, cmd)
	if err := p.same(got, want); err != nil {
		return fmt.Errorf("%w\n got %+v\nwant %+v", err, got, *want)
	}
	if comparable {
		if err := previewHeld(preview, granted, got); err != nil {
			return err
		}
	}
	if err := p.watch.saw(cmd, got); err != nil {
		return err
	}
	p.learn(cmd, got)
	return p.samePools()
}

// learn lets the client remember what it was told.
func (p *program) learn(cmd lease.Command, r lease.Reply) {
	kind := fmt.Sprintf("%T ok", cmd)
	if r.Refusal != nil {
		kind = fmt.Sprintf("%T %s", cmd, r.Refusal.Reason)
	}
	if r.Replayed {
		kind += " replayed"
	}
	p.stats[kind]++
	ref, _ := numberedRef(cmd)
	for _, c := range p.clients {
		if c.ref.ID != ref.ID || r.Refusal != nil || p.chance(8) { // the answer may be lost
			continue
		}
		for _, l := range r.Leases {
			if !slices.Contains(c.held, l.Ref) {
				c.held = append(c.held, l.Ref)
			}
		}
		if n := len(c.held); n > 8 {
			c.held = c.held[n-8:]
		}
	}
}

// same compares an answer with the model's.
func (p *program) same(got lease.Reply, want *expected) error {
	reason := lease.Reason("")
	if got.Refusal != nil {
		reason = got.Refusal.Reason
	}
	if reason != want.reason || got.Replayed != want.replayed {
		return fmt.Errorf("reason %q, want %q; replayed %v, want %v", reason, want.reason, got.Replayed, want.replayed)
	}
	if len(got.Leases) != len(want.granted) || len(got.Lost) != len(want.lost) || len(got.Released) != len(want.released) {
		return fmt.Errorf("%d leases, want %d; %d lost, want %d; %d released, want %d",
			len(got.Leases), len(want.granted), len(got.Lost), len(want.lost), len(got.Released), len(want.released))
	}
	for i, l := range got.Leases {
		m := want.granted[i]
		if slices.Contains(want.fresh, m) && !want.replayed {
			m.ID = l.ID // the one thing the model does not foretell
		}
		remaining := max(0, p.model.deadline(m).Sub(p.model.now))
		if l.Ref != m.Ref || l.Count != m.count || int(l.Handle) != m.handle || !slices.Equal(l.Seats, m.seats()) || l.Remaining != remaining ||
			l.Rev != m.session.rev || (l.State == lease.Active) != (remaining > 0) {
			return fmt.Errorf("lease %d is %+v, want %+v on seats %v with %v left", i, l, *m, m.seats(), remaining)
		}
	}
	if len(got.Renewed) != len(want.renewed) {
		return fmt.Errorf("%d short answers, want %d", len(got.Renewed), len(want.renewed))
	}
	for i, x := range got.Renewed {
		if w := want.renewed[i]; x.Reason != w.Reason || x.News != w.News || x.Leases != w.Leases || (x.Reason == "") != (x.Remaining > 0) {
			return fmt.Errorf("renewed %d: %+v, want %+v", i, x, w)
		}
	}
	for i, x := range got.Lost {
		if x != want.lost[i] {
			return fmt.Errorf("lost %+v, want %+v", x, want.lost[i])
		}
	}
	for i, x := range got.Released {
		if (lease.Lost{Ref: x.Ref, Feature: x.Feature, Reason: x.Reason}) != want.released[i] {
			return fmt.Errorf("released %+v, want %+v", x, want.released[i])
		}
	}
	return nil
}

// samePools compares every pool with the model's.
func (p *program) samePools() error {
	type sums struct{ total, used, expiring int }
	sum := map[string]sums{}
	shown := 0
	for _, m := range p.model.pools {
		total, early, expired := p.model.total(m)
		if total > 0 || early || expired || m.inUse() > 0 {
			shown++
		}
		k := poolLabel(m.tenant, m.ent.Feature, m.ent.Version)
		s := sum[k]
		sum[k] = sums{s.total + total, s.used + m.inUse(), s.expiring}
	}
	for _, l := range p.model.leases {
		if p.model.deadline(l) <= p.model.now {
			k := poolLabel(l.pool.tenant, l.pool.ent.Feature, l.pool.ent.Version)
			s := sum[k]
			s.expiring++
			sum[k] = s
		}
	}
	pools := p.book.Pools("")
	for _, got := range pools {
		want := sum[poolLabel(got.Tenant, got.Feature, got.Version)]
		if (sums{got.Total, got.InUse, got.Expiring}) != want {
			return fmt.Errorf("pool %+v, want %+v", got, want)
		}
	}
	if len(pools) != shown {
		return fmt.Errorf("%d pools, want %d", len(pools), shown)
	}
	if _, n := p.book.Counts(); n != len(p.model.leases) {
		return fmt.Errorf("%d live leases, want %d", n, len(p.model.leases))
	}
	return nil
}

// preview asks what a checkout would get, where the answer is bound to hold: nothing is
// due (a preview reclaims nothing) and the request is not judged by its number.
func (p *program) preview(cmd lease.Command) (items []lease.PreviewItem, ok, comparable bool) {
	c, is := cmd.(lease.Checkout)
	if !is || c.Session.Seq != 0 || len(p.book.Due(1)) > 0 {
		return nil, false, false
	}
	items, ok = p.book.Preview(c)
	return items, ok, true
}

func previewHeld(items []lease.PreviewItem, ok bool, got lease.Reply) error {
	first := lease.Reason("")
	for _, it := range items {
		if it.Refusal != nil && first == "" {
			first = it.Refusal.Reason
		}
	}
	if ok != (first == "") {
		return fmt.Errorf("preview says %v and %q", ok, first)
	}
	r := got.Refusal
	switch {
	case r == nil && !ok:
		return fmt.Errorf("preview said %q, checkout was granted", first)
	case r == nil || slices.Contains([]lease.Reason{lease.Forbidden, lease.SessionUnknown, lease.Fenced}, r.Reason):
		return nil // a preview does not judge the session
	case ok:
		return fmt.Errorf("preview said yes, checkout was refused: %v", r)
	case r.Reason != first:
		return fmt.Errorf("preview said %q, checkout was refused: %v", first, r)
	}
	return nil
}

// propertySeeds is how many programs run; SEATKEEPER_PROPERTY_SEEDS asks for more.
func propertySeeds(t testing.TB) uint64 {
	s := os.Getenv("SEATKEEPER_PROPERTY_SEEDS")
	if s == "" {
		return inFull[uint64](6, 3)
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("SEATKEEPER_PROPERTY_SEEDS: %v", err)
	}
	return n
}

const propertySteps = 1500

// inFull chooses how much of something is tried: all of it in make stories, without the race
// detector, and a part of it in make test, where each step takes many times as long.
func inFull[T any](full, short T) T {
	if testing.Short() {
		return short
	}
	return full
}

func TestBookAgreesWithANaiveModel(t *testing.T) {
	total := map[string]int{}
	for seed := range propertySeeds(t) {
		p := newProgram(seed)
		if err := p.run(propertySteps); err != nil {
			t.Fatalf("seed %d, command %d: %v", seed, len(p.sent), err)
		}
		for k, n := range p.stats {
			total[k] += n
		}
	}
	for _, want := range []string{
		"lease.Checkout ok", "lease.Checkout ok replayed", "lease.Checkout no_seats", "lease.Checkout no_seats replayed", "lease.Checkout sessions_exceeded",
		"lease.Checkout no_feature", "lease.Checkout version", "lease.Checkout license_expired", "lease.Checkout not_started", "lease.Checkout too_many_requested",
		"lease.Checkout stale_request", "lease.Checkout session_unknown", "lease.Checkout forbidden", "lease.Checkout invalid", "lease.Checkout fenced", "lease.Checkout overloaded",
		"lease.Renew ok", "lease.Renew fenced", "lease.Renew session_unknown", "lease.RenewMany ok", "lease.CheckIn ok", "lease.CheckIn ok replayed", "lease.CheckIn fenced", "lease.CheckIn stale_request",
		"lease.Expire ok", "lease.Expire fenced", "lease.ExpireSession ok", "lease.ExpireSession fenced", "lease.Kill ok", "lease.InstallLicence ok", "lease.InstallLicence invalid", "lease.RemoveLicence ok",
	} {
		if total[want] == 0 {
			t.Errorf("the programs never came to %q", want)
		}
	}
}
