package client

import (
	"sync"

	"golang.org/x/sys/unix"
)

// systemClock reads CLOCK_BOOTTIME. Some sandboxes lack it; there the stepping clock
// serves.
func systemClock() Instant {
	if bootTimeMissing() {
		return fallbackClock().Now()
	}
	var ts unix.Timespec
	// It was readable at the first call, and a readable clock does not fail later.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return Instant(ts.Nano())
}

// bootTimeMissing is decided once, so that one process never mixes two clocks.
var bootTimeMissing = sync.OnceValue(func() bool {
	var ts unix.Timespec
	return unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil
})
