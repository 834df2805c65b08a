//go:build mutants

package lease

import "sync/atomic"

var broken atomic.Value // Guard

// Break takes one guard away until the next call; "" puts it back. It exists in builds
// with the tag "mutants" only.
func Break(g Guard) { broken.Store(g) }

// Broken says whether the guard was taken away.
func Broken(g Guard) bool { b, _ := broken.Load().(Guard); return b == g }
