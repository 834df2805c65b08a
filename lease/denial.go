package lease

import "time"

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
