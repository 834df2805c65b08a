// Package lease holds the rules of Seatkeeper: who may hold which seat, for how
// long, and what happens when nobody renews it.
//
// Its words: a tenant has entitlements, which add up to pools of numbered seats.
// A session (one process run of a client) checks seats out and gets a lease; the
// lease carries a fencing token and lives for one lifespan per heartbeat of its
// session, then for one grace (expiring: the seat is still charged), then it is
// reclaimed. Sessions of one masked principal may form a share group, which is
// charged once.
//
// Its one rule: the package is a pure function of its input. It imports the
// standard library only, starts no goroutine, reads no clock, writes no log and
// never lets a map's order reach a result. Every Book that is given the same
// commands at the same times is the same Book, byte for byte in a snapshot.
//
// Its clock assumption: Time is given to it (Book.Advance), never decreases and
// never runs faster than real time while leases are renewed under it. Calendar
// dates matter for licence dates only and come with the same call.
package lease
