// Package run carries out a whole run of the chaos harness and has it judged: it makes
// the cluster, lets the clients work, lets the nemesis break things, waits until all is
// well, closes every session, and stores what was seen.
//
// A run leaves a directory:
//
//	test.edn        seed, parameters, versions, pools, limits
//	history.edn     one operation a line
//	audit-NODE.edn  the log that each node applied, one entry a line
//	nemesis.edn     faults with their proofs, changes of leader, what was left out
//	results.edn     the verdicts
//	nodes/NODE/     config, log, and the disk's bytes (backing/data)
//
// Its one rule: the verdict rests on these files alone, so that a stored run can be
// judged again.
package run
