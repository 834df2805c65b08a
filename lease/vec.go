package lease

// pageSize is how many records a page holds: the cost of the first write to a page
// after a Freeze is one copy of it.
const pageSize = 64

type page[T any] struct {
	gen     uint64
	records [pageSize]T
}

// vec is a paged vector with copy on write: a copy of the struct is a frozen view of
// it, as long as every later write to the original is made under a new generation.
// Records that hold slices must replace them, never write into them.
type vec[T any] struct {
	gen   uint64 // generation that owns pages
	pages []*page[T]
}

// at returns record i for reading; nil if i was never written.
func (v *vec[T]) at(i uint32) *T {
	p := i / pageSize
	if int(p) >= len(v.pages) || v.pages[p] == nil {
		return nil
	}
	return &v.pages[p].records[i%pageSize]
}

// mut returns record i for writing under generation gen.
func (v *vec[T]) mut(gen uint64, i uint32) *T {
	p := int(i / pageSize)
	if v.gen != gen {
		own := make([]*page[T], len(v.pages), max(cap(v.pages), p+1))
		copy(own, v.pages)
		v.pages, v.gen = own, gen
	}
	for p >= len(v.pages) {
		v.pages = append(v.pages, nil)
	}
	switch pg := v.pages[p]; {
	case pg == nil:
		v.pages[p] = &page[T]{gen: gen}
	case pg.gen != gen:
		own := *pg
		own.gen = gen
		v.pages[p] = &own
	}
	return &v.pages[p].records[i%pageSize]
}

// all calls yield for every record ever written to, in order, until it returns false.
func (v *vec[T]) all(yield func(i uint32, r *T) bool) {
	for p, pg := range v.pages {
		if pg == nil {
			continue
		}
		for k := range pg.records {
			if !yield(uint32(p*pageSize+k), &pg.records[k]) {
				return
			}
		}
	}
}
