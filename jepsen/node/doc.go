// Package node runs the servers that are judged: real processes, each in its own network
// namespace with its data on its own fault-injecting disk.
//
// Its words: a node is a place (address, disk, name) at which a process runs or does
// not; an exit is the end of a process, wanted or not; the ledger is the file that says
// what this run made on the machine.
//
// Its one rule: everything that outlives this process by itself (a namespace, a mount,
// a control group, a server) is in the ledger before it is made, so that Clean can
// take it away after a crash of the harness too. Only what the ledger names is touched.
//
// Its clocks: a process's clocks can be bent (see Clock); the harness's own are not.
package node
