package lease

import (
	"cmp"
	"slices"
	"time"
)

// ServedWithin is how long after a denial the same asker's getting the seat still makes
// that denial untrue: what people and job systems that retry by themselves take for one
// request. It is an hour because a build farm's retries come minutes apart.
const ServedWithin = time.Hour

// noteDenial records a refusal of a checkout for people: which item, who asked, and
// whether asking again could help. slot is the asker's session, 0 if it has none.
func (b *Book) noteDenial(c *Checkout, slot uint32, plans []plan, refusal *Refusal) {
	who := c.Principal
	if slot != 0 {
		who = b.principalOf(slot)
	}
	item := c.Items[0] // of a refusal that is meant for the whole request
	for _, p := range plans {
		if p.refusal == refusal {
			item = p.item
		}
	}
	b.events = append(b.events, Event{
		Kind: Denied, At: b.Now(), Date: b.Calendar(), Tenant: c.Tenant, Session: c.Session.ID, Principal: who,
		Feature: item.Feature, Version: item.Version, Count: item.Count, Vendor: b.vendorOf(c.Tenant, item.Feature),
		Reason: refusal.Reason, Final: refusal.Final,
	})
}

// vendorOf is the vendor of the feature's first pool; "" if the tenant has none.
func (b *Book) vendorOf(tenant, feature string) string {
	if pools := b.poolsByFeature[featureKey{tenant, feature}]; len(pools) > 0 {
		return b.pools.at(pools[0]).Vendor
	}
	return ""
}

// DenialID names a denial in a history: log index and place among the entry's events.
type DenialID struct {
	Index uint64
	Place uint32
}

// maxUnserved bounds how many denials are watched at once for being served after all.
const maxUnserved = 16384

// Unserved watches denials for whether the asker gets the seat after all, soon: who waited
// in a queue, or simply tried again, was not denied in truth. The zero value is ready.
type Unserved struct {
	waiting map[askerKey][]DenialID
	order   []unservedDenial // as they came, by date and by id
}

type unservedDenial struct {
	id   DenialID
	date Calendar
	keys [2]askerKey
	gone bool // served; its place is kept until it is the first
}

// askerKey is one asker and feature: by session, or by who it runs for.
type askerKey struct {
	tenant, feature, user, host string
	session                     SessionID
}

// keysOf are what an asker is known by. Somebody without a name is known by the session
// only.
func keysOf(e *Event) (keys [2]askerKey) {
	if !e.Session.IsZero() {
		keys[0] = askerKey{tenant: e.Tenant, feature: e.Feature, session: e.Session}
	}
	if e.Principal.User != "" {
		keys[1] = askerKey{tenant: e.Tenant, feature: e.Feature, user: e.Principal.User, host: e.Principal.Host}
	}
	return keys
}

// Denied notes a denial; a final one is not watched.
func (u *Unserved) Denied(e *Event, id DenialID) {
	u.forget(e.Date)
	if e.Final {
		return
	}
	if u.waiting == nil {
		u.waiting = map[askerKey][]DenialID{}
	}
	d := unservedDenial{id: id, date: e.Date, keys: keysOf(e)}
	for _, k := range d.keys {
		if k != (askerKey{}) {
			u.waiting[k] = append(u.waiting[k], id)
		}
	}
	u.order = append(u.order, d)
}

// Granted returns the denials that a grant makes untrue, oldest first; each is returned
// once.
func (u *Unserved) Granted(e *Event) (served []DenialID) {
	u.forget(e.Date)
	for _, k := range keysOf(e) {
		if k == (askerKey{}) {
			continue
		}
		for _, id := range u.waiting[k] {
			if !slices.Contains(served, id) {
				served = append(served, id)
			}
		}
		delete(u.waiting, k)
	}
	for _, id := range served {
		u.drop(id)
	}
	slices.SortFunc(served, DenialID.Compare)
	return served
}

// drop takes a served denial out of what is known of it by its other key.
func (u *Unserved) drop(id DenialID) {
	i, found := slices.BinarySearchFunc(u.order, id, func(d unservedDenial, id DenialID) int { return d.id.Compare(id) })
	if !found || u.order[i].gone {
		return
	}
	u.unlist(&u.order[i])
	u.order[i].gone = true
}

// unlist works on lists in the order of ids: what is too old stands first in them.
func (u *Unserved) unlist(d *unservedDenial) {
	for _, k := range d.keys {
		list := u.waiting[k]
		i, found := slices.BinarySearchFunc(list, d.id, DenialID.Compare)
		switch {
		case !found:
		case len(list) == 1:
			delete(u.waiting, k)
		case i == 0:
			u.waiting[k] = list[1:]
		default:
			u.waiting[k] = slices.Delete(list, i, i+1)
		}
	}
}

// forget stops watching what is too old, or too much. It moves nothing: with many denials
// this runs for each of them.
func (u *Unserved) forget(now Calendar) {
	n := 0
	for n < len(u.order) && (u.order[n].gone || u.order[n].date+Calendar(ServedWithin/time.Millisecond) < now || len(u.order)-n >= maxUnserved) {
		if d := &u.order[n]; !d.gone {
			u.unlist(d)
		}
		u.order[n] = unservedDenial{}
		n++
	}
	u.order = u.order[n:]
}

// DenialRecord is one refused request, as it is kept for people.
type DenialRecord struct {
	ID               DenialID
	At               Time
	Date             Calendar
	Tenant, Vendor   string
	Feature, Version string
	Count            int
	Session          SessionID
	Principal        Principal
	Reason           Reason
	Final            bool
	// Served is when the asker got the seat after all; 0: not within ServedWithin. Such a
	// denial is no true one.
	Served Calendar
}

// Compare orders ids as they came.
func (d DenialID) Compare(o DenialID) int {
	return cmp.Or(cmp.Compare(d.Index, o.Index), cmp.Compare(d.Place, o.Place))
}

// Served stops watching a denial that is known to be served.
func (u *Unserved) Served(id DenialID) { u.drop(id) }
