package lease_test

import (
	"fmt"
	"slices"

	"github.com/seatkeeper/seatkeeper/lease"
)

// watch sees one Book before and after every command and knows what must hold between.
type watch struct {
	b      *lease.Book
	before state
	after  state
	cmd    lease.Command
	reply  lease.Reply
	events []lease.Event

	lastToken map[string]lease.Token               // L3: by pool and seat
	did       map[requestKey]bool                  // I1: numbered requests that had their effect
	shut      map[lease.SessionID]lease.Time       // I1: closed, and remembered until then
	latest    map[lease.SessionID]lease.SessionRef // I2: newest incarnation and seq accepted
	open      map[lease.ID]lease.Event             // U1: granted, not ended
	ended     map[lease.ID]bool
}

type requestKey struct {
	id       lease.SessionID
	inc, seq uint64
}

// state is what a full scan of the Book shows.
type state struct {
	now      lease.Time
	leases   map[lease.ID]lease.Lease
	pools    []lease.PoolStatus
	sessions map[lease.SessionID]lease.SessionRecord
	millis   map[string]uint64 // seats × time of ended leases, by pool
}

func newWatch(b *lease.Book) *watch {
	w := &watch{b: b, lastToken: map[string]lease.Token{}, did: map[requestKey]bool{}, shut: map[lease.SessionID]lease.Time{}, latest: map[lease.SessionID]lease.SessionRef{},
		open: map[lease.ID]lease.Event{}, ended: map[lease.ID]bool{}}
	w.after = w.scan()
	return w
}

func (w *watch) scan() state {
	s := state{now: w.b.Now(), leases: map[lease.ID]lease.Lease{}, pools: w.b.Pools(""), sessions: map[lease.SessionID]lease.SessionRecord{}, millis: map[string]uint64{}}
	all, _ := w.b.Leases(lease.Filter{}, 0, 1<<20)
	for _, l := range all {
		s.leases[l.ID] = l
	}
	f := w.b.Freeze()
	f.Sessions(func(_ uint32, r *lease.SessionRecord) bool { s.sessions[r.ID] = *r; return true })
	f.Pools(func(_ uint32, p *lease.PoolRecord) bool {
		s.millis[poolLabel(p.Tenant, p.Feature, p.Version)] += p.SeatMillis
		return true
	})
	return s
}

// advance is called after time moved, before the command.
func (w *watch) advance() { w.before = w.scan() }

// saw is called after the command; it gives the first invariant that does not hold.
func (w *watch) saw(cmd lease.Command, r lease.Reply) error {
	w.cmd, w.reply, w.events, w.after = cmd, r, w.b.TakeEvents(), w.scan()
	if err := w.b.Check(); err != nil {
		return err
	}
	for _, check := range []func() error{
		w.checkL1, w.checkL3, w.checkL4, w.checkL5, w.checkL6, w.checkI1, w.checkI2, w.checkI3, w.checkI4, w.checkU1,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkL1: never more seats charged than there are, unless a licence went away, and each
// seat has one holder or one share group.
func (w *watch) checkL1() error {
	for _, p := range w.after.pools {
		was := 0
		for _, q := range w.before.pools {
			if q.Tenant == p.Tenant && q.Feature == p.Feature && q.Version == p.Version {
				was = max(was, q.InUse)
			}
		}
		if p.InUse > max(p.Total, was) {
			return fmt.Errorf("L1: %s %s: %d seats in use of %d", p.Feature, p.Version, p.InUse, p.Total)
		}
	}
	if err := w.checkL1Features(); err != nil {
		return err
	}
	owner := map[[2]uint32]uint32{}
	var err error
	w.b.Freeze().Groups(func(slot uint32, g *lease.GroupRecord) bool {
		for _, n := range g.Seats {
			if other := owner[[2]uint32{g.Pool, n}]; other != 0 {
				err = fmt.Errorf("L1: seat %d of pool %d is charged to %d and to %d", n, g.Pool, other, slot)
			}
			owner[[2]uint32{g.Pool, n}] = slot
		}
		return err == nil
	})
	return err
}

// checkL1Features: nor of a feature, whichever pools its seats fall into.
func (w *watch) checkL1Features() error {
	type name struct {
		tenant, vendor, feature string
		suite                   bool
	}
	was, is, total := map[name]int{}, map[name]int{}, map[name]int{}
	for _, p := range w.before.pools {
		was[name{p.Tenant, p.Vendor, p.Feature, p.Suite}] += p.InUse
	}
	for _, p := range w.after.pools {
		k := name{p.Tenant, p.Vendor, p.Feature, p.Suite}
		is[k], total[k] = is[k]+p.InUse, total[k]+p.Total
	}
	for k, n := range is {
		if n > max(total[k], was[k]) {
			return fmt.Errorf("L1: %d seats of %s in use, %d are licensed and %d were in use before", n, k.feature, total[k], was[k])
		}
	}
	return nil
}

// poolKey names a pool for ever, though its slot is used again.
func poolKey(p *lease.PoolRecord) string {
	return fmt.Sprint(p.Tenant, "/", p.Vendor, "/", p.Feature, "/", p.Version, p.Profile, p.Share, p.Terms)
}

// checkL3: the token of each grant is above all earlier ones of its seats.
func (w *watch) checkL3() error {
	f := w.b.Freeze()
	pools, groups := map[uint32]string{}, map[uint32]string{}
	f.Pools(func(slot uint32, p *lease.PoolRecord) bool { pools[slot] = poolKey(p); return true })
	f.Groups(func(slot uint32, g *lease.GroupRecord) bool { groups[slot] = pools[g.Pool]; return true })
	granted := map[lease.ID]string{}
	f.Leases(func(_ uint32, l *lease.LeaseRecord) bool { granted[l.ID] = groups[l.Group]; return true })
	for _, l := range w.reply.Leases {
		if _, old := w.before.leases[l.ID]; old {
			continue
		}
		for _, n := range l.Seats {
			seat := fmt.Sprint(granted[l.ID], " seat ", n)
			if l.Token <= w.lastToken[seat] {
				return fmt.Errorf("L3: %s was granted with token %d after %d", seat, l.Token, w.lastToken[seat])
			}
			w.lastToken[seat] = l.Token
		}
	}
	return nil
}

// gone lists the leases that this command ended.
func (w *watch) gone() (out []lease.Lease) {
	for id, l := range w.before.leases {
		if _, still := w.after.leases[id]; !still {
			out = append(out, l)
		}
	}
	return out
}

// checkL4: a seat is reclaimed for a missed heartbeat only when deadline and grace are
// over, and by an Expire only if that named token and revision.
func (w *watch) checkL4() error {
	for _, e := range w.events {
		if e.Kind != lease.Ended || e.Release != lease.ReleasedMissedHeartbeat {
			continue
		}
		l := w.before.leases[e.Lease.ID]
		if l.State != lease.Expiring || l.Grace > 0 {
			return fmt.Errorf("L4: lease %d was reclaimed at %d, its deadline %d and grace not over", l.ID, w.after.now, l.Deadline)
		}
		if c, by := w.cmd.(lease.Expire); by && (c.ID != l.ID || c.Token != l.Token || c.Rev != l.Rev) {
			return fmt.Errorf("L4: lease %+v was reclaimed by %+v", l, c)
		}
	}
	return nil
}

// checkL5: no command brings a deadline forward.
func (w *watch) checkL5() error {
	for id, l := range w.after.leases {
		if was, old := w.before.leases[id]; old && l.Deadline < was.Deadline {
			return fmt.Errorf("L5: lease %d had until %d, now until %d", id, was.Deadline, l.Deadline)
		}
	}
	return nil
}

// checkL6: a command that names leases ends none that it does not name rightly.
func (w *watch) checkL6() error {
	var refs []lease.Ref
	switch c := w.cmd.(type) {
	case lease.Kill:
		refs = c.Refs
	case lease.CheckIn:
		for _, l := range w.gone() {
			if l.Session != c.Session.ID {
				return fmt.Errorf("L6: %+v ended lease %d of session %s", c, l.ID, l.Session)
			}
		}
		if refs = c.Refs; len(refs) == 0 || c.Close {
			return nil
		}
	default:
		return nil
	}
	for _, l := range w.gone() {
		if !slices.ContainsFunc(refs, func(r lease.Ref) bool { return r.ID == l.ID && (r.Token == 0 || r.Token == l.Token) }) {
			return fmt.Errorf("L6: %+v ended lease %d with token %d", w.cmd, l.ID, l.Token)
		}
	}
	return nil
}

// checkL7: after the due expirations were applied, nobody holds past deadline and grace.
func (w *watch) checkL7() error {
	for _, l := range w.scan().leases {
		if l.State == lease.Expiring && l.Grace == 0 {
			return fmt.Errorf("L7: lease %d of %s is still there at %d, deadline %d", l.ID, l.Feature, w.b.Now(), l.Deadline)
		}
	}
	return nil
}

// numberedRef gives the session of a numbered request; its seq is 0 for any other.
func numberedRef(cmd lease.Command) (ref lease.SessionRef, acts bool) {
	switch c := cmd.(type) {
	case lease.Checkout:
		return c.Session, true
	case lease.CheckIn:
		return c.Session, true
	case lease.Renew:
		ref = c.Session
		ref.Seq = 0
		return ref, true
	}
	return ref, false
}

// effect says what of the leases changed, apart from what nobody renewed.
func (w *watch) effect() error {
	for id, l := range w.after.leases {
		was, old := w.before.leases[id]
		if !old || was.Deadline != l.Deadline || was.Token != l.Token {
			return fmt.Errorf("lease %d was %+v and is %+v", id, was, l)
		}
	}
	for _, e := range w.events {
		if e.Kind == lease.Ended && e.Release != lease.ReleasedMissedHeartbeat {
			return fmt.Errorf("lease %d ended", e.Lease.ID)
		}
	}
	return nil
}

// checkI1: the second time a numbered request is seen, nothing happens.
func (w *watch) checkI1() error {
	for k := range w.did {
		if _, known := w.after.sessions[k.id]; !known {
			delete(w.did, k)
		}
	}
	for _, e := range w.events {
		if e.Kind == lease.Granted && w.after.now < w.shut[e.Session] {
			return fmt.Errorf("I1: %+v opened a session that was closed", w.cmd)
		}
	}
	if c, is := w.cmd.(lease.CheckIn); is && c.Close && w.reply.Refusal == nil {
		if s := w.before.sessions[c.Session.ID]; !s.Ephemeral {
			w.shut[s.ID] = s.Renewed.Add(s.Lifespan).Add(s.Grace)
		}
	}
	ref, acts := numberedRef(w.cmd)
	if !acts || ref.Seq == 0 || ref.Incarnation == 0 {
		return nil
	}
	k := requestKey{ref.ID, ref.Incarnation, ref.Seq}
	if w.did[k] {
		if err := w.effect(); err != nil {
			return fmt.Errorf("I1: %+v came again and had an effect: %w", w.cmd, err)
		}
	}
	if _, known := w.after.sessions[k.id]; known && w.reply.Refusal == nil {
		w.did[k] = true
	}
	return nil
}

// checkI2: a request of an older incarnation, or numbered lower than the last, does nothing.
func (w *watch) checkI2() error {
	for id := range w.latest {
		if _, known := w.after.sessions[id]; !known {
			delete(w.latest, id)
		}
	}
	if many, ok := w.cmd.(lease.RenewMany); ok {
		return w.checkI2Many(many)
	}
	ref, acts := numberedRef(w.cmd)
	if !acts {
		return nil
	}
	last, known := w.latest[ref.ID]
	older := known && ref.Incarnation != 0 && ref.Incarnation < last.Incarnation
	lower := known && ref.Seq != 0 && ref.Seq < last.Seq && (ref.Incarnation == 0 || ref.Incarnation == last.Incarnation)
	if older || lower {
		if err := w.effect(); err != nil || w.reply.Refusal == nil {
			return fmt.Errorf("I2: %+v came after %+v and was done (%v)", w.cmd, last, err)
		}
		return nil
	}
	s, live := w.after.sessions[ref.ID]
	if !live {
		return nil
	}
	if s.Incarnation > last.Incarnation { // also by a request that was then refused
		last = lease.SessionRef{ID: ref.ID, Incarnation: s.Incarnation}
	}
	if w.reply.Refusal == nil {
		last.Seq = max(last.Seq, ref.Seq)
	}
	w.latest[ref.ID] = last
	return nil
}

// checkI2Many: the same for each session of a batch, in its order.
func (w *watch) checkI2Many(many lease.RenewMany) error {
	for i, x := range many.Sessions {
		last, known := w.latest[x.ID]
		done := i < len(w.reply.Renewed) && w.reply.Renewed[i].Reason == ""
		switch {
		case known && x.Incarnation != 0 && x.Incarnation < last.Incarnation && done:
			return fmt.Errorf("I2: session %d of %+v came after %+v and was done", i, many, last)
		case done && x.Incarnation > last.Incarnation:
			w.latest[x.ID] = lease.SessionRef{ID: x.ID, Incarnation: x.Incarnation}
		}
	}
	return nil
}

// checkI3: no session holds two leases of one pool.
func (w *watch) checkI3() error {
	f := w.b.Freeze()
	pool := map[uint32]uint32{}
	f.Groups(func(slot uint32, g *lease.GroupRecord) bool { pool[slot] = g.Pool; return true })
	held := map[[2]uint32]lease.ID{}
	var err error
	f.Leases(func(_ uint32, l *lease.LeaseRecord) bool {
		k := [2]uint32{l.Session, pool[l.Group]}
		if other := held[k]; other != 0 {
			err = fmt.Errorf("I3: one session holds leases %d and %d of one pool", other, l.ID)
		}
		held[k] = l.ID
		return err == nil
	})
	return err
}

// checkI4: what is kept to recognise duplicates is bounded per session.
func (w *watch) checkI4() error {
	for id, s := range w.after.sessions {
		if len(s.Lost) > lease.MaxLost || len(s.Last.Granted) > lease.MaxItems || len(s.Last.Released) > lease.MaxLeasesPerSession ||
			s.Closed && (len(s.Lost) > 0 || s.Last.Kind != lease.DoneNothing) {
			return fmt.Errorf("I4: session %s keeps %+v", id, s)
		}
	}
	return nil
}

// checkI4Due: after the due expirations no session is remembered beyond its time.
func (w *watch) checkI4Due() error {
	for id, s := range w.scan().sessions {
		if s.Leases == 0 && s.Renewed.Add(s.Lifespan).Add(s.Grace) <= w.b.Now() {
			return fmt.Errorf("I4: session %s is still remembered", id)
		}
	}
	return nil
}

// checkU1: every grant ends once, with a reason, and the usage adds up.
func (w *watch) checkU1() error {
	if c, is := w.cmd.(lease.CheckIn); is && w.reply.Refusal == nil && !w.reply.Replayed && (c.Close || len(c.Refs) == 0) {
		if s := w.after.sessions[c.Session.ID]; s.Leases > 0 {
			return fmt.Errorf("U1: %+v gave everything back, and %d leases are left", c, s.Leases)
		}
	}
	for _, e := range w.events {
		switch e.Kind {
		case lease.Granted:
			if _, twice := w.open[e.Lease.ID]; twice || w.ended[e.Lease.ID] {
				return fmt.Errorf("U1: lease %d was granted twice", e.Lease.ID)
			}
			w.open[e.Lease.ID] = e
		case lease.Ended:
			g, open := w.open[e.Lease.ID]
			if !open || e.Release == 0 || e.Start != g.At || e.At < e.Start || e.Count != g.Count || e.Session != g.Session || e.Feature != g.Feature {
				return fmt.Errorf("U1: %+v ends %+v", e, g)
			}
			delete(w.open, e.Lease.ID)
			w.ended[e.Lease.ID] = true
		}
	}
	if len(w.open) != len(w.after.leases) {
		return fmt.Errorf("U1: %d leases granted and not ended, %d live", len(w.open), len(w.after.leases))
	}
	return w.usageAddsUp()
}

// usageAddsUp compares the usage records of this command with what the pools counted.
func (w *watch) usageAddsUp() error {
	sum := map[string]uint64{}
	for _, e := range w.events {
		if e.Kind == lease.Ended {
			u := e.Usage()
			sum[poolLabel(u.Tenant, u.Feature, u.Version)] += uint64(u.Count) * uint64(u.End.Sub(u.Start).Milliseconds())
		}
	}
	for label, millis := range w.after.millis {
		switch w.cmd.(type) {
		case lease.InstallLicence, lease.RemoveLicence: // pools come and go with their sums
			if len(sum) > 0 {
				return fmt.Errorf("U1: a change of licences ended leases")
			}
		default:
			if millis-w.before.millis[label] != sum[label] {
				return fmt.Errorf("U1: %s counted %d seat milliseconds, usage records say %d", label, millis-w.before.millis[label], sum[label])
			}
		}
	}
	return nil
}

func poolLabel(tenant, feature, version string) string { return tenant + "/" + feature + "/" + version }
