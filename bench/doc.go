// Package bench measures a Seatkeeper cluster as a client of its public API.
//
// Its words: a Target is the cluster, a Wire is the raw way to its leader, Nodes are
// its server processes where the bench itself started them. Each benchmark is a struct
// of settings whose Run adds rows, values and notes to a load.Report:
//
//	Cycle      checkout and check-in, beside what gRPC and the disk alone can do
//	Heartbeat  renewals: unary, on streams, many sessions a message
//	Failover   the leader is killed under load: when is the next checkout acknowledged
//	Surge      one tenant misbehaves: what does a quiet one feel
//	Million    a million leases: growth, memory, expiry, restart, snapshots
//
// Its one rule: it only prints. Nothing here decides whether a number is good, and
// tests of this package never look at one; the machine decides more than the code does.
// It sees nothing of the servers but what any client can: answers and /metrics.
//
// How time is taken stands in package load.
package bench
