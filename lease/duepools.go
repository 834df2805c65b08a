package lease

// duePools is the due index of all leases: a heap for each pool, and above them one of the
// pools by the earliest key of each. So a denial that asks what is due in its own pools
// does not look at what is due in others, however much that is.
type duePools struct {
	n     int // leases in all heaps
	heaps []*dueIndex
	// first is lazy like the heaps: the key of a pool may be too early, never too late.
	first dueIndex
	// pos is that of all heaps: a lease is in one of them.
	pos *list[uint32]
}

// heap is that of a pool; nil if the pool has no lease.
func (d *duePools) heap(pool uint32) *dueIndex {
	if int(pool) >= len(d.heaps) {
		return nil
	}
	return d.heaps[pool]
}

func (d *duePools) push(pool, slot uint32, key Time) {
	for int(pool) >= len(d.heaps) {
		d.heaps = append(d.heaps, nil)
	}
	h := d.heaps[pool]
	if h == nil {
		if d.pos == nil {
			d.pos = new(list[uint32])
		}
		h = &dueIndex{pos: d.pos}
		d.heaps[pool] = h
	}
	h.push(slot, key)
	d.n++
	if d.first.place(pool) < 0 {
		d.first.push(pool, key)
	} else {
		d.first.hasten(pool, key)
	}
}

func (d *duePools) remove(pool, slot uint32) {
	h := d.heap(pool)
	if h == nil || h.place(slot) < 0 {
		return
	}
	h.remove(slot)
	d.n--
	if h.n == 0 {
		d.first.remove(pool)
		d.heaps[pool] = nil
	}
}

// correct puts right what stands above the heap of a pool.
func (d *duePools) correct(pool uint32) {
	d.first.move(pool, *d.heaps[pool].keys.at(0))
}

// top gives the lease that is due longest at t in some pools; of equal ones that with
// the lowest slot.
func (d *duePools) top(t Time, pools []uint32, trueKey func(slot uint32) Time) (slot, pool uint32, ok bool) {
	var best dueEntry
	for _, p := range pools {
		h := d.heap(p)
		if h == nil || *h.keys.at(0) > t {
			continue
		}
		s, due := h.top(t, trueKey)
		d.correct(p)
		if e := (dueEntry{*h.keys.at(0), s}); due && (!ok || e.before(best)) {
			best, pool, ok = e, p, true
		}
	}
	return best.slot, pool, ok
}

// settle corrects up to n keys that look due at t, until one really is.
func (d *duePools) settle(t Time, n int, trueKey func(slot uint32) Time) {
	for n > 0 && d.first.n > 0 {
		e := d.first.entry(0)
		if e.key > t {
			return
		}
		left := d.heaps[e.slot].settle(t, n, trueKey)
		d.correct(e.slot)
		if left == n {
			if d.first.entry(0) == e {
				return // it really is due
			}
			left-- // a pool put right is a key put right
		}
		n = left
	}
}

// dueBy is that of dueIndex, over all pools.
func (d *duePools) dueBy(t Time, limit, corrections int, trueKey func(slot uint32) Time) (slots []uint32, done bool) {
	corrected := 0
	for _, pool := range d.poolsBy(t) {
		if len(slots) == limit || corrected == corrections {
			break
		}
		more, n := d.heaps[pool].look(t, limit-len(slots), corrections-corrected, trueKey)
		d.correct(pool)
		slots, corrected = append(slots, more...), corrected+n
	}
	return slots, len(slots) == limit || corrected < corrections
}

// walk visits the leases whose key is at most t, in no order that means anything.
func (d *duePools) walk(t Time, visit func(slot uint32) bool) {
	goOn := true
	for _, pool := range d.poolsBy(t) {
		d.heaps[pool].walk(t, func(slot uint32) bool {
			goOn = visit(slot)
			return goOn
		})
		if !goOn {
			return
		}
	}
}

// poolsBy lists the pools that look as if something of theirs were due at t.
func (d *duePools) poolsBy(t Time) (pools []uint32) {
	d.first.walk(t, func(pool uint32) bool {
		pools = append(pools, pool)
		return true
	})
	return pools
}

// keyOf is the key under which a lease of a pool stands.
func (d *duePools) keyOf(pool, slot uint32) (Time, bool) {
	h := d.heap(pool)
	if h == nil {
		return 0, false
	}
	i := h.place(slot)
	if i < 0 || i >= h.n || h.entry(i).slot != slot {
		return 0, false
	}
	if p := d.first.place(pool); p < 0 || d.first.entry(p).key > *h.keys.at(0) {
		return 0, false // the pool would be found too late, and the lease with it
	}
	return h.entry(i).key, true
}
