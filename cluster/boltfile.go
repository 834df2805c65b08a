package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// Bolt trusts its file: it maps it into memory and follows every offset it finds there,
// so that one flipped bit may end the process in a fault that nothing can catch, or show
// an older state as if it were the newest. This file reads bolt's format with every
// bound checked, and is asked before bolt is.

// The format of a bolt file, version 2; numbers are in the machine's byte order.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	boltHeader   = 16 // of a page: id 8, flags 2, count 2, overflow 4
	boltElement  = 16 // of a branch or leaf page
	boltMetaSize = 64
	boltBranch   = 1
	boltLeaf     = 2
	boltMetaPage = 4
	boltBucket   = 1 // flag of a leaf element whose value is a bucket
	// boltDepth is more levels than a tree of any size has.
	boltDepth = 32
)

// boltPair is one key and its value. flags are bolt's.
type boltPair struct {
	flags      uint32
	key, value []byte
}

// boltReader walks one file.
type boltReader struct {
	f        io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64 // page numbers in use are below it
	root     uint64
	txid     uint64
	seen     map[uint64]bool
}

// order is the byte order of bolt's file, little that of everything of our own in it.
var (
	order  = binary.NativeEndian
	little = binary.LittleEndian
)

// readBolt returns the records of every bucket of the file, in key order, and the
// number of its newest transaction. The error says what is damaged.
func readBolt(path string) (buckets map[string][]boltPair, txid uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	r := &boltReader{f: f, size: info.Size(), seen: map[uint64]bool{}}
	if err := r.readMeta(); err != nil {
		return nil, 0, err
	}
	top, err := r.bucket(r.root)
	if err != nil {
		return nil, 0, err
	}
	buckets = map[string][]boltPair{}
	for _, p := range top {
		if p.flags != boltBucket || len(p.value) < boltHeader {
			return nil, 0, errors.New("its list of buckets is damaged")
		}
		root := order.Uint64(p.value)
		var pairs []boltPair
		if root == 0 { // a small bucket stands in the value itself
			pairs, err = r.inline(p.value[boltHeader:])
		} else {
			pairs, err = r.bucket(root)
		}
		if err != nil {
			return nil, 0, err
		}
		for _, x := range pairs {
			if x.flags != 0 {
				return nil, 0, fmt.Errorf("bucket %q holds something that is no record", p.key)
			}
		}
		buckets[string(p.key)] = pairs
	}
	return buckets, r.txid, nil
}

// boltTransaction returns the number of the newest transaction of the file.
func boltTransaction(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r := &boltReader{f: f, size: info.Size()}
	err = r.readMeta()
	return r.txid, err
}

// readMeta finds the newer of the two meta pages that are whole.
func (r *boltReader) readMeta() error {
	sizes := []int64{0} // offsets at which the second one may stand
	for s := int64(1024); s <= 1<<16; s *= 2 {
		sizes = append(sizes, s)
	}
	for _, at := range sizes {
		buf := make([]byte, boltHeader+boltMetaSize)
		if _, err := r.f.ReadAt(buf, at); err != nil {
			continue
		}
		m := buf[boltHeader:]
		sum := fnv.New64a()
		sum.Write(m[:56])
		if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion || order.Uint64(m[56:]) != sum.Sum64() {
			continue
		}
		if size := int64(order.Uint32(m[8:])); size < 1024 || size > 1<<16 || at != 0 && at != size {
			continue
		}
		if order.Uint16(buf[8:]) != boltMetaPage || int64(order.Uint64(buf)) != min(at, 1) {
			return errors.New("the header of a meta page is damaged")
		}
		if txid := order.Uint64(m[48:]); r.pageSize == 0 || txid > r.txid {
			r.pageSize, r.root, r.pages, r.txid = int64(order.Uint32(m[8:])), order.Uint64(m[16:]), order.Uint64(m[40:]), txid
		}
	}
	if r.pageSize == 0 {
		return errors.New("neither of its two meta pages is whole")
	}
	if r.pages > uint64(r.size/r.pageSize) {
		return fmt.Errorf("it has been cut off: %d pages were written, %d are there", r.pages, r.size/r.pageSize)
	}
	return nil
}

// bucket returns all pairs below a root page.
func (r *boltReader) bucket(root uint64) ([]boltPair, error) {
	var pairs []boltPair
	err := r.walk(root, 0, nil, &pairs)
	return pairs, err
}

// page reads one page with what overflows from it, once.
func (r *boltReader) page(id uint64) ([]byte, error) {
	if id < 2 || id >= r.pages {
		return nil, fmt.Errorf("page %d is out of range", id)
	}
	var head [boltHeader]byte
	if _, err := r.f.ReadAt(head[:], int64(id)*r.pageSize); err != nil {
		return nil, fmt.Errorf("page %d cannot be read: %w", id, err)
	}
	n := 1 + uint64(order.Uint32(head[12:]))
	if order.Uint64(head[:]) != id || n > r.pages-id {
		return nil, fmt.Errorf("the header of page %d is damaged", id)
	}
	for i := range n {
		if r.seen[id+i] {
			return nil, fmt.Errorf("page %d is used twice", id+i)
		}
		r.seen[id+i] = true
	}
	page := make([]byte, int64(n)*r.pageSize)
	if _, err := r.f.ReadAt(page, int64(id)*r.pageSize); err != nil {
		return nil, fmt.Errorf("page %d cannot be read: %w", id, err)
	}
	return page, nil
}

// walk appends the pairs below page id in order. floor is the key that the parent
// gives for the page: nothing in it may be lower.
func (r *boltReader) walk(id uint64, depth int, floor []byte, pairs *[]boltPair) error {
	if depth > boltDepth {
		return errors.New("its tree has no end")
	}
	page, err := r.page(id)
	if err != nil {
		return err
	}
	switch order.Uint16(page[8:]) {
	case boltLeaf:
		return leafPairs(page, id, floor, pairs)
	case boltBranch:
	default:
		return fmt.Errorf("page %d is neither branch nor leaf", id)
	}
	count := int(order.Uint16(page[10:]))
	if count == 0 || boltHeader+count*boltElement > len(page) {
		return fmt.Errorf("page %d has an impossible count", id)
	}
	for i := range count {
		at := boltHeader + i*boltElement
		key, _, ok := boltSpan(page, at, count, order.Uint32(page[at:]), order.Uint32(page[at+4:]), 0)
		if !ok {
			return fmt.Errorf("element %d of page %d is out of range", i, id)
		}
		if n := len(*pairs); n > 0 && bytes.Compare(key, (*pairs)[n-1].key) <= 0 && (i > 0 || floor != nil) {
			return fmt.Errorf("the keys of page %d are out of order", id)
		}
		if i == 0 {
			key = floor // what is lower than the first key goes there too
		}
		if err := r.walk(order.Uint64(page[at+8:]), depth+1, key, pairs); err != nil {
			return err
		}
	}
	return nil
}

func (r *boltReader) inline(page []byte) (pairs []boltPair, err error) {
	if len(page) < boltHeader || order.Uint16(page[8:]) != boltLeaf {
		return nil, errors.New("the head of a bucket is damaged")
	}
	err = leafPairs(page, 0, nil, &pairs)
	return pairs, err
}

func leafPairs(page []byte, id uint64, floor []byte, pairs *[]boltPair) error {
	count := int(order.Uint16(page[10:]))
	if boltHeader+count*boltElement > len(page) {
		return fmt.Errorf("page %d has an impossible count", id)
	}
	for i := range count {
		at := boltHeader + i*boltElement
		flags := order.Uint32(page[at:])
		key, value, ok := boltSpan(page, at, count, order.Uint32(page[at+4:]), order.Uint32(page[at+8:]), order.Uint32(page[at+12:]))
		if !ok || flags > boltBucket {
			return fmt.Errorf("element %d of page %d is out of range", i, id)
		}
		if n := len(*pairs); n > 0 && bytes.Compare(key, (*pairs)[n-1].key) <= 0 || bytes.Compare(key, floor) < 0 {
			return fmt.Errorf("the keys of page %d are out of order", id)
		}
		*pairs = append(*pairs, boltPair{flags, key, value})
	}
	return nil
}

// boltSpan cuts key and value out of a page; pos counts from the element itself.
func boltSpan(page []byte, at, count int, pos, ksize, vsize uint32) (key, value []byte, ok bool) {
	from := uint64(at) + uint64(pos)
	mid := from + uint64(ksize)
	end := mid + uint64(vsize)
	if from < uint64(boltHeader+count*boltElement) || end > uint64(len(page)) || ksize == 0 {
		return nil, nil, false
	}
	return page[from:mid:mid], page[mid:end:end], true
}
