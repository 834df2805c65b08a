package lease

import "slices"

// numbers hands out the lowest free number, from 1. Which number comes next depends
// only on which are taken, never on the order of what happened, so a Book restored
// from a snapshot chooses as the original does.
type numbers struct {
	next uint32   // all numbers from here on are free; 0 means 1
	free []uint32 // a min-heap of free numbers below next
}

func (n *numbers) take() uint32 {
	if n.next == 0 {
		n.next = 1
	}
	if len(n.free) == 0 {
		n.next++
		return n.next - 1
	}
	low := n.free[0]
	last := len(n.free) - 1
	n.free[0] = n.free[last]
	n.free = n.free[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && n.free[c+1] < n.free[c] {
			c++
		}
		if n.free[i] <= n.free[c] {
			break
		}
		n.free[i], n.free[c] = n.free[c], n.free[i]
		i = c
	}
	return low
}

func (n *numbers) put(x uint32) {
	n.free = append(n.free, x)
	for i := len(n.free) - 1; i > 0; {
		up := (i - 1) / 2
		if n.free[up] <= n.free[i] {
			break
		}
		n.free[up], n.free[i] = n.free[i], n.free[up]
		i = up
	}
}

// setAside takes the free numbers that would come before the wanted ones or between them, so
// that these come next, as far as they are free. The caller puts them back.
func (n *numbers) setAside(wanted []uint32) (others []uint32) {
	var mine []uint32
	for most := slices.Max(append([]uint32{0}, wanted...)); ; {
		x := n.take()
		if slices.Contains(wanted, x) {
			mine = append(mine, x)
		} else {
			others = append(others, x)
		}
		if x >= most {
			break
		}
	}
	for _, x := range mine {
		n.put(x)
	}
	return others
}

// numbersWithout rebuilds the state in which exactly the ascending taken are taken.
func numbersWithout(taken []uint32) numbers {
	n := numbers{next: 1}
	for _, x := range taken {
		for ; n.next < x; n.next++ {
			n.free = append(n.free, n.next)
		}
		n.next = x + 1
	}
	slices.Sort(n.free) // ascending is a heap
	return n
}
