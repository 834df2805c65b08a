// Package network gives every node and every group of clients a network namespace with
// an address of its own, and joins them by a switch that is a part of this process.
//
// Its words: a port is one namespace's way into the switch (a TUN device there); a link
// is one direction between two ports; a rule is what a fault does to a link; a fault is
// a named set of rules that is put on and taken off as one.
//
// Its one rule: a fault counts what it did. A fault that touched no packet did not
// happen, however long it was on.
//
// TCP and UDP suffer alike, because whole IP packets pass. Nothing leaves the
// namespaces: the switch knows the ports' addresses and drops the rest.
//
// Its clock: delays are timers of this process; they are at least as long as asked.
package network
