package lease

import "fmt"

// A changed licence may bring its seats in another pool: a new version, new terms. What is
// out of the old pool stays out until it is returned. Until then it counts against the
// other pools of the feature, as it would if all were one pool: of a feature never more
// seats are granted than are licensed of it, whichever pools they fall into.
//
// Everything here is derived from what is charged and what is licensed.

// kin are the pools of one feature of one vendor, lowest version first. A feature with
// one pool has none.
type kin struct {
	pools []uint32
	over  int // seats in use beyond what their own pools have
}

// findKin finds which pools belong together and what they bear for each other. Called when
// pools, totals or what a policy allows above them have changed.
func (b *Book) findKin() {
	for i := range b.state {
		st := &b.state[i]
		st.kin, st.over, st.heldBack = nil, 0, 0
	}
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		list := b.poolsByFeature[featureKey{p.Tenant, p.Feature}]
		if p.Feature == "" || b.state[i].kin != nil || len(list) < 2 {
			return true
		}
		k := &kin{}
		for _, other := range list {
			if q := b.pools.at(other); q.Vendor == p.Vendor && q.Suite == p.Suite {
				k.pools = append(k.pools, other)
			}
		}
		if len(k.pools) < 2 {
			return true
		}
		for _, other := range k.pools {
			st := &b.state[other]
			st.kin, st.over = k, b.overUse(other)
			k.over += st.over
		}
		b.carry(k)
		return true
	})
}

// seatsOf is how many seats of a pool may be in use: those licensed, and what the policy
// allows above them.
func (b *Book) seatsOf(pool uint32) int { return b.state[pool].total + b.overdraft(pool) }

// overUse is how many more are.
func (b *Book) overUse(pool uint32) int {
	return max(0, int(b.pools.at(pool).Charged)-b.seatsOf(pool))
}

// spare is how many seats of a pool are not charged, whatever it bears for others.
func (b *Book) spare(pool uint32) int {
	return max(0, b.seatsOf(pool)-int(b.pools.at(pool).Charged))
}

// recharged is called when seats of a pool were charged or came back.
func (b *Book) recharged(pool uint32) {
	st := &b.state[pool]
	if st.kin == nil {
		return
	}
	over := b.overUse(pool)
	if over == 0 && st.kin.over == 0 {
		return
	}
	st.kin.over += over - st.over
	st.over = over
	b.carry(st.kin)
}

// carry decides which pools bear what is in use beyond others: first those of the same
// version, then the next higher ones, which would serve the holders as well, then the next
// lower. Those who wait for a pool that bears less are looked at.
func (b *Book) carry(k *kin) {
	share, debt := make([]int, len(k.pools)), 0
	for at := 0; at < len(k.pools) && k.over > 0; {
		end, version := at, b.pools.at(k.pools[at]).Version
		for ; end < len(k.pools) && CompareVersions(b.pools.at(k.pools[end]).Version, version) == 0; end++ {
			debt += b.state[k.pools[end]].over
		}
		for ; at < end; at++ {
			share[at] = min(debt, b.spare(k.pools[at]))
			debt -= share[at]
		}
	}
	for at := len(k.pools) - 1; at >= 0 && debt > 0; at-- {
		more := min(debt, b.spare(k.pools[at])-share[at])
		share[at] += more
		debt -= more
	}
	for at, i := range k.pools {
		less := share[at] < b.state[i].heldBack
		b.state[i].heldBack = share[at]
		if less {
			b.stir(i)
		}
	}
}

// checkCarry counts again what pools bear for each other.
func (b *Book) checkCarry() (err error) {
	type name struct {
		tenant, vendor, feature string
		suite                   bool
	}
	over, spare, borne, n := map[name]int{}, map[name]int{}, map[name]int{}, map[name]int{}
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature == "" {
			return true
		}
		k, held := name{p.Tenant, p.Vendor, p.Feature, p.Suite}, b.state[i].heldBack
		over[k], spare[k], borne[k], n[k] = over[k]+b.overUse(i), spare[k]+b.spare(i), borne[k]+held, n[k]+1
		if held > 0 && held > b.spare(i) {
			err = fmt.Errorf("feature %s: a pool bears %d seats for others and has %d", p.Feature, held, b.spare(i))
		}
		return err == nil
	})
	for k, want := range over {
		if n[k] < 2 {
			want = 0
		}
		if want = min(want, spare[k]); err == nil && borne[k] != want {
			err = fmt.Errorf("feature %s: %d seats are in use beyond what some pools have, the others bear %d", k.feature, want, borne[k])
		}
	}
	return err
}

// heldBackOf words for a refusal what pools bear.
func (b *Book) heldBackOf(pools []uint32) string {
	n := 0
	for _, i := range pools {
		n += b.state[i].heldBack
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d held back for as many still out of an earlier licence", n)
}

// overAlarms warns of seats beyond what is licensed: those that other pools bear, and
// those that nobody bears. told counts the former, by feature, in the course of a listing.
func (b *Book) overAlarms(pool uint32, p *PoolRecord, told map[*kin]int) (list []string) {
	st := &b.state[pool]
	over, borne := int(p.Charged)-st.total, 0
	if st.kin != nil {
		for _, i := range st.kin.pools {
			borne += b.state[i].heldBack
		}
		borne = min(st.over, borne-told[st.kin])
		told[st.kin] += borne
	}
	if over -= borne; over > 0 {
		list = append(list, fmt.Sprintf("feature %s: %s in use beyond what is licensed now", p.Feature, seatsText(over)))
	}
	if borne > 0 {
		list = append(list, fmt.Sprintf("feature %s: %s of version %s still out beyond what is licensed now; as many others are held back", p.Feature, seatsText(borne), p.Version))
	}
	return list
}
