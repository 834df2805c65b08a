//go:build race

package main

// raceMemory is how much more memory a program takes under the race detector, at least:
// its stacks and objects are larger (go.dev/doc/articles/race_detector says 5 to 10 times
// with what the detector keeps, which the node does not count).
const raceMemory = 2
