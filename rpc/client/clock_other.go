//go:build !linux

package client

func systemClock() Instant { return fallbackClock().Now() }
