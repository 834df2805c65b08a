// Command peers measures the systems that Seatkeeper is compared with, and compares.
//
// It is a module of its own, so that those systems and their clients stay out of the
// main one. The load, the clock and the report are those of bench/load; a peer is only
// a way to start its servers and a few workers that do there what a checkout does here.
// Servers are real processes on loopback with their data on the same disk, fsync on,
// and every setting as it comes.
//
//	peers run -system etcd|redis|echo …   one peer, prints a report
//	peers compare …                       all in turn, writes BENCHMARKS.md and plots
package main
