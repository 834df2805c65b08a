package lease

// dueIndex orders slots by the time they may be reclaimed. A heartbeat does not
// touch it: a key may be too early, never too late, and is put right when it comes to
// the top (the heap is lazy). So a renewal costs nothing here and each slot is
// corrected about once per lifespan and grace: a few with every Advance, so that a node
// that never asks what is due, or asks after a long time, does not do all at once.
type dueIndex struct {
	n int
	// keys and slots are the heap; two lists, so that no entry has a hole in it.
	keys  list[Time]
	slots list[uint32]
	// pos is by slot the place in the heap plus one; 0 means absent. Heaps whose slots are
	// of one table, each in one heap at most, share it.
	pos *list[uint32]
}

type dueEntry struct {
	key  Time
	slot uint32
}

func (e dueEntry) before(f dueEntry) bool {
	return e.key < f.key || e.key == f.key && e.slot < f.slot
}

func (d *dueIndex) entry(i int) dueEntry {
	return dueEntry{*d.keys.at(uint32(i)), *d.slots.at(uint32(i))}
}

func (d *dueIndex) set(i int, e dueEntry) {
	*d.keys.at(uint32(i)), *d.slots.at(uint32(i)) = e.key, e.slot
	*d.pos.at(e.slot) = uint32(i + 1)
}

// place is where in the heap a slot stands; -1 if it is not there.
func (d *dueIndex) place(slot uint32) int {
	if !d.pos.has(slot) {
		return -1
	}
	return int(*d.pos.at(slot)) - 1
}

func (d *dueIndex) push(slot uint32, key Time) {
	if d.pos == nil {
		d.pos = new(list[uint32])
	}
	d.pos.grow(slot)
	d.keys.grow(uint32(d.n))
	d.slots.grow(uint32(d.n))
	d.set(d.n, dueEntry{key, slot})
	d.n++
	d.up(d.n - 1)
}

// remove takes a slot out, if it is there.
func (d *dueIndex) remove(slot uint32) {
	i := d.place(slot)
	if i < 0 {
		return
	}
	*d.pos.at(slot) = 0
	d.n--
	if i == d.n {
		return
	}
	d.set(i, d.entry(d.n))
	d.down(d.up(i))
}

// hasten moves a slot that is there to an earlier key, if the key is earlier.
func (d *dueIndex) hasten(slot uint32, key Time) {
	if i := d.place(slot); key < *d.keys.at(uint32(i)) {
		*d.keys.at(uint32(i)) = key
		d.up(i)
	}
}

// move gives a slot that is there another key.
func (d *dueIndex) move(slot uint32, key Time) {
	i := d.place(slot)
	*d.keys.at(uint32(i)) = key
	d.down(d.up(i))
}

// top gives the earliest slot whose true key is at most t, correcting the keys that
// looked so and were not.
func (d *dueIndex) top(t Time, trueKey func(slot uint32) Time) (slot uint32, ok bool) {
	d.settle(t, d.n, trueKey)
	if d.n == 0 || *d.keys.at(0) > t {
		return 0, false
	}
	return *d.slots.at(0), true
}

// settle corrects up to n keys that come first and look due at t, until one really is.
// It says how many of the n are left.
func (d *dueIndex) settle(t Time, n int, trueKey func(slot uint32) Time) int {
	for ; n > 0 && d.n > 0; n-- {
		e := d.entry(0)
		if e.key > t {
			return n
		}
		k := trueKey(e.slot)
		if k == e.key {
			return n
		}
		*d.keys.at(0) = k
		d.down(0)
	}
	return n
}

// dueBy gives slots whose true key is at most t, at most limit of them. It corrects the
// keys that looked due and were not, at most corrections of them: done is false if there
// may be more, and then slots may be too few.
func (d *dueIndex) dueBy(t Time, limit, corrections int, trueKey func(slot uint32) Time) (slots []uint32, done bool) {
	slots, corrected := d.look(t, limit, corrections, trueKey)
	return slots, len(slots) == limit || corrected < corrections
}

// look does what dueBy does and says how many keys it corrected.
func (d *dueIndex) look(t Time, limit, corrections int, trueKey func(slot uint32) Time) (slots []uint32, corrected int) {
	var early []uint32
	d.walk(t, func(slot uint32) bool {
		if trueKey(slot) <= t {
			slots = append(slots, slot)
		} else {
			early = append(early, slot)
		}
		return len(slots) < limit && len(early) < corrections
	})
	for _, slot := range early {
		i := d.place(slot)
		*d.keys.at(uint32(i)) = trueKey(slot)
		d.down(i)
	}
	return slots, len(early)
}

// walk visits the slots whose key is at most t, in no order that means anything.
func (d *dueIndex) walk(t Time, visit func(slot uint32) bool) {
	goOn := true
	var from func(i int)
	from = func(i int) {
		if !goOn || i >= d.n || *d.keys.at(uint32(i)) > t {
			return
		}
		goOn = visit(*d.slots.at(uint32(i)))
		from(2*i + 1)
		from(2*i + 2)
	}
	from(0)
}

func (d *dueIndex) up(i int) int {
	e := d.entry(i)
	for i > 0 {
		p := (i - 1) / 2
		if !e.before(d.entry(p)) {
			break
		}
		d.set(i, d.entry(p))
		i = p
	}
	d.set(i, e)
	return i
}

func (d *dueIndex) down(i int) {
	e := d.entry(i)
	for {
		c := 2*i + 1
		if c >= d.n {
			break
		}
		if c+1 < d.n && d.entry(c+1).before(d.entry(c)) {
			c++
		}
		if !d.entry(c).before(e) {
			break
		}
		d.set(i, d.entry(c))
		i = c
	}
	d.set(i, e)
}
