package lease

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
)

// comparePools orders the pools of a feature: the lowest version that fits is used
// first, so that newer seats stay for those who need them.
func comparePools(p, q *PoolRecord) int {
	return cmp.Or(CompareVersions(p.Version, q.Version), cmp.Compare(p.Vendor, q.Vendor), cmp.Compare(p.Version, q.Version),
		cmp.Compare(p.Profile.Lifespan, q.Profile.Lifespan), cmp.Compare(p.Profile.Grace, q.Profile.Grace),
		cmp.Compare(p.Share.By, q.Share.By), cmp.Compare(p.Share.MaxSessions, q.Share.MaxSessions), compareTerms(&p.Terms, &q.Terms))
}

// poolOf finds the pool whose key agrees with the entitlement; 0 if there is none.
func (b *Book) poolOf(x *Licence, e *Entitlement) uint32 {
	for _, i := range b.poolsByFeature[featureKey{x.Tenant, e.Feature}] {
		p := b.pools.at(i)
		if p.Vendor == x.Vendor && p.Version == e.Version && p.Profile == e.Profile && p.Share == e.Share && p.Terms == e.Terms {
			return i
		}
	}
	return 0
}

func (b *Book) ensurePool(x *Licence, e *Entitlement) {
	if b.poolOf(x, e) != 0 {
		return
	}
	i := b.poolSlots.take()
	p := b.pools.mut(b.gen, i)
	*p = PoolRecord{Tenant: x.Tenant, Vendor: x.Vendor, Feature: e.Feature, Version: e.Version, Profile: e.Profile, Share: e.Share, Terms: e.Terms}
	b.indexPool(i, p)
}

// shareKey is a masked principal in a pool.
type shareKey struct {
	pool                        uint32
	user, host, display, vendor string
}

func shareKeyOf(pool uint32, by Mask, p Principal) shareKey {
	k := shareKey{pool: pool}
	if by&MaskUser != 0 {
		k.user = p.User
	}
	if by&MaskHost != 0 {
		k.host = p.Host
	}
	if by&MaskDisplay != 0 {
		k.display = p.Display
	}
	if by&MaskVendor != 0 {
		k.vendor = p.VendorDefined
	}
	return k
}

// shares says whether the principal can share at all: every field the mask looks at
// must be known, or strangers without a name would share.
func shares(by Mask, p Principal) bool {
	return by != 0 &&
		(by&MaskUser == 0 || p.User != "") && (by&MaskHost == 0 || p.Host != "") &&
		(by&MaskDisplay == 0 || p.Display != "") && (by&MaskVendor == 0 || p.VendorDefined != "")
}

// findGroup gives the slot of the charge that the masked principal shares; 0: none.
func (b *Book) findGroup(k shareKey) uint32 {
	return b.groupByShare.find(b.shareHash(k), func(slot uint32) bool { return b.shareKeyAt(slot) == k })
}

// shareKeyAt is the key of a shared charge. Its members agree on it.
func (b *Book) shareKeyAt(slot uint32) shareKey {
	g := b.groups.at(slot)
	who := b.principalOf(b.leases.at(b.members(slot)[0]).Session)
	return shareKeyOf(g.Pool, b.pools.at(g.Pool).Share.By, who)
}

func (b *Book) groupHash(slot uint32) uint64 { return b.shareHash(b.shareKeyAt(slot)) }

func (b *Book) shareHash(k shareKey) uint64 {
	var room [4 + 4*(MaxNameLen+1)]byte
	key := binary.LittleEndian.AppendUint32(room[:0], k.pool)
	for _, field := range [...]string{k.user, k.host, k.display, k.vendor} {
		key = append(append(key, field...), ownerEnd...)
	}
	return maphash.Bytes(b.groupByShare.seed, key)
}
