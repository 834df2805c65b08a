package client

import (
	"testing"
	"time"
)

func TestStepClock(t *testing.T) {
	steps := []struct {
		name       string
		mono, wall time.Duration // how far each moves
		want       time.Duration
	}{
		{"both run", time.Second, time.Second, time.Second},
		{"asleep: only the wall clock moved", 0, time.Hour, time.Hour},
		{"wall set back", time.Second, -time.Hour, time.Second},
		{"wall set forward", time.Second, time.Hour, time.Hour},
		{"wall set back again does not make it stand still", time.Second, -time.Hour, time.Second},
		{"both stand still or go back", -time.Second, -time.Second, 0},
	}
	var mono, wall time.Duration
	c := &stepClock{read: func() (time.Duration, time.Duration) { return mono, wall }}
	last := c.Now()
	for _, s := range steps {
		mono, wall = mono+s.mono, wall+s.wall
		now := c.Now()
		if got := now.Sub(last); got != s.want {
			t.Errorf("%s: moved %v, want %v", s.name, got, s.want)
		}
		last = now
	}
}

func TestSystemClockMovesForward(t *testing.T) {
	last := SystemClock()
	for range 1000 {
		now := SystemClock()
		if now < last {
			t.Fatal("went back")
		}
		last = now
	}
}
