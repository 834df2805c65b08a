package lease

// pageSize is how many records a page holds: the cost of the first write to a page
// after a Freeze is one copy of it. Rows are laid out so that 64 of them fill a size
// class of the allocator; see "Where time and memory go" in DESIGN.md.
const pageSize = 64

// vec is a paged vector with copy on write: a copy of the struct is a frozen view of
// it, as long as every later write to the original is made under a new generation.
// Records that hold slices or pointers must replace them, never write into them.
type vec[T any] struct {
	gen   uint64 // generation that owns the list of pages
	pages []*[pageSize]T
	// gens is by page the generation it was made under. Only the writer looks at it.
	// It stands apart because a page with eight bytes more fills the next size class.
	gens []uint64
}

// at returns record i for reading; nil if i was never written.
func (v *vec[T]) at(i uint32) *T {
	p := i / pageSize
	if int(p) >= len(v.pages) || v.pages[p] == nil {
		return nil
	}
	return &v.pages[p][i%pageSize]
}

// mut returns record i for writing under generation gen.
func (v *vec[T]) mut(gen uint64, i uint32) *T {
	p := int(i / pageSize)
	if v.gen != gen {
		own := make([]*[pageSize]T, len(v.pages), max(cap(v.pages), p+1))
		copy(own, v.pages)
		v.pages, v.gen = own, gen
	}
	for p >= len(v.pages) {
		v.pages = append(v.pages, nil)
		v.gens = append(v.gens, gen)
	}
	switch pg := v.pages[p]; {
	case pg == nil:
		v.pages[p], v.gens[p] = new([pageSize]T), gen
	case v.gens[p] != gen:
		own := *pg
		v.pages[p], v.gens[p] = &own, gen
	}
	return &v.pages[p][i%pageSize]
}

// all calls yield for every record ever written to, in order, until it returns false.
func (v *vec[T]) all(yield func(i uint32, r *T) bool) { v.from(0, yield) }

// from does the same, beginning with record i.
func (v *vec[T]) from(i uint32, yield func(i uint32, r *T) bool) {
	k := int(i % pageSize)
	for p := int(i / pageSize); p < len(v.pages); p++ {
		for ; v.pages[p] != nil && k < pageSize; k++ {
			if !yield(uint32(p*pageSize+k), &v.pages[p][k]) {
				return
			}
		}
		k = 0
	}
}

// list is a plain vector in chunks: it grows without moving what it holds, so no single
// command pays for the whole, and without room to spare. Only its first chunk begins
// small, and is moved: there is a list for each pool, and most pools have few leases.
type list[T any] struct{ chunks [][]T }

const (
	chunkSize  = 1024
	firstChunk = 8
)

func (l *list[T]) at(i uint32) *T { return &l.chunks[i/chunkSize][i%chunkSize] }

// grow makes element i exist.
func (l *list[T]) grow(i uint32) {
	if l.has(i) {
		return
	}
	if len(l.chunks) == 0 {
		l.chunks = [][]T{nil}
	}
	if had := len(l.chunks[0]); had < chunkSize {
		first := make([]T, min(chunkSize, max(firstChunk, 2*had, int(i)+1)))
		copy(first, l.chunks[0])
		l.chunks[0] = first
	}
	for int(i/chunkSize) >= len(l.chunks) {
		l.chunks = append(l.chunks, make([]T, chunkSize))
	}
}

func (l *list[T]) has(i uint32) bool {
	c := int(i / chunkSize)
	return l != nil && c < len(l.chunks) && int(i%chunkSize) < len(l.chunks[c])
}
