//go:build mutants

package lease

import (
	"slices"
	"sync/atomic"
)

var broken atomic.Value // []Guard

// Break takes guards away until the next call; without any, all are back. It exists in
// builds with the tag "mutants" only.
func Break(guards ...Guard) { broken.Store(guards) }

// Broken says whether the guard was taken away.
func Broken(g Guard) bool {
	gone, _ := broken.Load().([]Guard)
	return slices.Contains(gone, g)
}
