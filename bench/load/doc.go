// Package load makes load and measures it, whatever is measured: Seatkeeper's own
// benchmarks and those of the systems it is compared with use the same loop, the same
// histogram and the same report.
//
// Its words: a Worker is one client that does one operation after another; a Step is
// one stretch of load with a number of clients; a Row is what a step showed; a Report
// is all rows of one system with the machine they were measured on.
//
// Its rule is honesty about time. In a closed loop (no rate) every client sends its
// next request when the last one is answered, so a slow server is asked less; such a
// row says how fast it goes, not what users of a fixed load would feel. In an open loop
// (a rate) every operation has a moment at which it should begin, and its latency
// counts from that moment, also when the client was still busy (Gil Tene, "How NOT to
// Measure Latency": coordinated omission). What should have begun and never did is
// counted as unsent. Warm-up is run, thrown away, and said.
//
// Its clock is the process's monotonic one.
package load
