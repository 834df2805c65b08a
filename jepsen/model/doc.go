// Package model is a second opinion: a small, slow, plain model of the service, written
// from its documented promises and sharing no code with it. It is given the log that a
// node applied and the answer that each command got, carries the commands out by itself,
// and says where an answer is wrong.
//
// Its words are its own: a house has pools, a pool has numbered chairs, a party (one
// session, or one share group) sits on chairs together, a ticket is one lease.
//
// What it takes from the log instead of predicting it: the ids and handles of leases
// (they must be new), which free chair is given (it must be free and licensed), and the
// licence calendar (it must not go back). Everything else must be as predicted: grant or
// refusal and its reason, token, deadline, revision, what is released and why, which
// entries count, and where cluster time stands. After a wrong answer it goes on from the
// answer, so that one mistake is not reported a thousand times.
package model
