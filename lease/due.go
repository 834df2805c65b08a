package lease

// dueIndex orders slots by the time they may be reclaimed. A heartbeat does not
// touch it: a key may be too early, never too late, and is put right when it comes to
// the top (the heap is lazy). So a renewal costs nothing here and each slot is
// corrected about once per lifespan and grace.
type dueIndex struct {
	heap []dueEntry
	pos  []int32 // by slot: place in heap plus one; 0 means absent
}

type dueEntry struct {
	key  Time
	slot uint32
}

func (e dueEntry) before(f dueEntry) bool {
	return e.key < f.key || e.key == f.key && e.slot < f.slot
}

func (d *dueIndex) push(slot uint32, key Time) {
	for int(slot) >= len(d.pos) {
		d.pos = append(d.pos, 0)
	}
	d.heap = append(d.heap, dueEntry{key, slot})
	d.up(len(d.heap) - 1)
}

func (d *dueIndex) remove(slot uint32) {
	i := int(d.pos[slot]) - 1
	last := len(d.heap) - 1
	d.pos[slot] = 0
	moved := d.heap[last]
	d.heap = d.heap[:last]
	if i == last {
		return
	}
	d.heap[i] = moved
	d.pos[moved.slot] = int32(i + 1)
	d.down(d.up(i))
}

// top gives the earliest slot by true key, correcting keys that are too early.
func (d *dueIndex) top(trueKey func(slot uint32) Time) (slot uint32, key Time, ok bool) {
	for len(d.heap) > 0 {
		e := d.heap[0]
		if k := trueKey(e.slot); k != e.key {
			d.heap[0].key = k
			d.down(0)
			continue
		}
		return e.slot, e.key, true
	}
	return 0, 0, false
}

// dueBy appends to slots those whose true key is at most t, up to limit; it corrects
// the keys that looked due and were not.
func (d *dueIndex) dueBy(t Time, limit int, trueKey func(slot uint32) Time) (slots []uint32) {
	var early []uint32
	var walk func(i int)
	walk = func(i int) {
		if i >= len(d.heap) || d.heap[i].key > t || len(slots) >= limit {
			return
		}
		if slot := d.heap[i].slot; trueKey(slot) <= t {
			slots = append(slots, slot)
		} else {
			early = append(early, slot)
		}
		walk(2*i + 1)
		walk(2*i + 2)
	}
	walk(0)
	for _, slot := range early {
		i := int(d.pos[slot]) - 1
		d.heap[i].key = trueKey(slot)
		d.down(i)
	}
	return slots
}

func (d *dueIndex) up(i int) int {
	e := d.heap[i]
	for i > 0 {
		p := (i - 1) / 2
		if !e.before(d.heap[p]) {
			break
		}
		d.set(i, d.heap[p])
		i = p
	}
	d.set(i, e)
	return i
}

func (d *dueIndex) down(i int) {
	e := d.heap[i]
	for {
		c := 2*i + 1
		if c >= len(d.heap) {
			break
		}
		if c+1 < len(d.heap) && d.heap[c+1].before(d.heap[c]) {
			c++
		}
		if !d.heap[c].before(e) {
			break
		}
		d.set(i, d.heap[c])
		i = c
	}
	d.set(i, e)
}

func (d *dueIndex) set(i int, e dueEntry) {
	d.heap[i] = e
	d.pos[e.slot] = int32(i + 1)
}
