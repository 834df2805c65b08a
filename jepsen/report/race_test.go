//go:build race

package report

// tenth makes the huge run smaller under the race detector, which slows it that much.
const tenth = 10
