package lease

import "hash/maphash"

// slotIndex finds a slot by a hash of what its row holds. It keeps six bytes a slot
// where a map would keep the key a second time, and it grows a table of 256 cells at a
// time (extendible hashing: Fagin, Nievergelt, Pippenger, Strong, 1979), so no single
// command pays for moving the whole.
//
// The hash has a seed of this process, or clients, who mint the session ids, could
// choose ids that collide. So the places differ between replicas, and nothing may
// depend on them: the index is never listed, only asked for one slot. It is not in the
// snapshot.
type slotIndex struct {
	seed  maphash.Seed
	depth uint     // the first depth bits of a hash choose in dir
	dir   []uint32 // number of a table
	table []*indexTable
	used  []uint16 // by table: cells in use
	local []uint8  // by table: how many first bits its hashes have in common
	n     int
}

// indexTable is an open table. A cell holds a slot and the last 8 bits of its hash, which
// are its home in the table; 0 is empty. Its mark is the first 16 bits. So slots can be
// moved within a table, and to another one, without looking at their rows, which are
// anywhere in memory; and a row that is looked at is nearly always the right one.
type indexTable struct {
	cells [indexCells]uint32
	marks [indexCells]uint16
}

const (
	indexCells = 256
	// indexFull is where a table is split: linear probing gets slow beyond.
	indexFull = indexCells * 7 / 8
	homeShift = slotBits
	markBits  = 16
)

func newSlotIndex(seed maphash.Seed) slotIndex {
	return slotIndex{
		seed: seed, dir: []uint32{0}, table: []*indexTable{{}},
		used: []uint16{0}, local: []uint8{0},
	}
}

func (x *slotIndex) tableOf(h uint64) uint32 { return x.dir[h>>(64-x.depth)] }

// find returns the slot with hash h for which same holds; 0 if there is none.
func (x *slotIndex) find(h uint64, same func(slot uint32) bool) uint32 {
	t, home, mark := x.table[x.tableOf(h)], uint8(h), uint16(h>>(64-markBits))
	for i := home; t.cells[i] != 0; i++ {
		if t.marks[i] == mark && uint8(t.cells[i]>>homeShift) == home && same(t.cells[i]&maxSlot) {
			return t.cells[i] & maxSlot
		}
	}
	return 0
}

// add puts in a slot that is not there. hash tells the hash of slots added before.
func (x *slotIndex) add(h uint64, slot uint32, hash func(slot uint32) uint64) {
	n := x.tableOf(h)
	for x.used[n] >= indexFull {
		x.split(n, h, hash)
		n = x.tableOf(h)
	}
	x.put(n, uint32(uint8(h))<<homeShift|slot, uint16(h>>(64-markBits)))
	x.n++
}

func (x *slotIndex) put(n, cell uint32, mark uint16) {
	t := x.table[n]
	i := uint8(cell >> homeShift)
	for t.cells[i] != 0 {
		i++
	}
	t.cells[i], t.marks[i] = cell, mark
	x.used[n]++
}

// split deals the slots of table n, which is where h belongs, out to two.
func (x *slotIndex) split(n uint32, h uint64, hash func(slot uint32) uint64) {
	if uint(x.local[n]) == x.depth {
		wide := make([]uint32, 2*len(x.dir))
		for i, t := range x.dir {
			wide[2*i], wide[2*i+1] = t, t
		}
		x.dir, x.depth = wide, x.depth+1
	}
	old := *x.table[n]
	other := uint32(len(x.table))
	*x.table[n], x.used[n] = indexTable{}, 0
	x.local[n]++
	bit := 64 - uint(x.local[n]) // of a hash: which of the two
	x.table = append(x.table, &indexTable{})
	x.used = append(x.used, 0)
	x.local = append(x.local, x.local[n])
	// The upper half of the directory entries that led to n now lead to the other.
	first := (h>>(bit+1)<<1 | 1) << bit >> (64 - x.depth)
	for i := range uint64(1) << (x.depth - uint(x.local[n])) {
		x.dir[first+i] = other
	}
	for i, cell := range old.cells {
		if cell == 0 {
			continue
		}
		first := uint64(old.marks[i]) << (64 - markBits)
		if bit < 64-markBits {
			first = hash(cell & maxSlot)
		}
		to := n
		if first>>bit&1 == 1 {
			to = other
		}
		x.put(to, cell, old.marks[i])
	}
}

// remove takes out a slot with hash h, and closes the gap.
func (x *slotIndex) remove(h uint64, slot uint32) {
	n := x.tableOf(h)
	t := x.table[n]
	gap := uint8(h)
	for t.cells[gap]&maxSlot != slot {
		if t.cells[gap] == 0 {
			return
		}
		gap++
	}
	for i := gap + 1; t.cells[i] != 0; i++ {
		// A cell may go back to the gap unless its home lies behind it.
		if home := uint8(t.cells[i] >> homeShift); i-home >= i-gap {
			t.cells[gap], t.marks[gap] = t.cells[i], t.marks[i]
			gap = i
		}
	}
	t.cells[gap], t.marks[gap] = 0, 0
	x.used[n]--
	x.n--
}
