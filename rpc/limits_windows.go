package rpc

// openFileLimits: Windows has none to speak of.
func openFileLimits() (soft, hard uint64) { return 0, 0 }
