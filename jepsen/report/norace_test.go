//go:build !race

package report

// tenth is for the race detector alone.
const tenth = 1
