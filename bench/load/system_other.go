//go:build !linux

package load

import (
	"errors"
	"runtime"
	"time"
)

func system(string) (kernel, fileSystem string, memory uint64) { return runtime.GOOS, "", 0 }

var errPin = errors.New("keeping processes on chosen CPUs works on Linux only: leave the flag out")

// Pin is refused: see errPin.
func Pin([]int) error { return errPin }

// GiveWay changes nothing here.
func GiveWay() error { return nil }

// PinThread is refused: see errPin.
func PinThread([]int) (undo func(), err error) { return nil, errPin }

// CPU is not measured here.
func CPU() time.Duration { return 0 }
