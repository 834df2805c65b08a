// Package access says who may ask a cluster for what: access tokens, their roles and the
// table that holds them. It is not about seats, so it stands beside the rules and not
// among them, and it is as pure: no clock, no input or output, no randomness; time and
// the random bytes of a token are arguments.
//
// Its words:
//
//	token      what a caller shows: "skt_", an id, "_" and a secret of 32 random bytes
//	id         names the token to people: in lists, audits and revocations; it is no secret
//	digest     SHA-256 of the whole token text. Only it is replicated and stored: nobody
//	           who reads a log, a snapshot or a backup can call with what is there. The
//	           secret is random and long, so a slow hash would add nothing but load.
//	role       what a token is for; package rpc says which calls each role may make
//	bound      a token with a tenant or a user acts for that one only
//
// Its one rule: a table is never changed. Each change returns another table, so readers
// need no lock and a snapshot costs nothing.
package access
