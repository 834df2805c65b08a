// Package sim runs a whole cluster, the real nodes with raft included, in one process
// on virtual time (testing/synctest): partitions, crashes, stalls, leader flapping,
// drifting clocks and clock steps, clients that sleep, crash, resume, duplicate, delay
// and abandon their requests. After every applied entry it checks the invariants; a
// seed reproduces a run, as far as the scheduler's own choices allow.
//
// Of three worlds one is ruled, with -ruled two: a policy changes while seats are out, clients wait in the
// queue with priorities and deadlines, book, borrow (and sleep, return early, are revoked),
// take what they can get, pay with tokens and seats of a suite and send the heartbeat of
// many; backups are restored. There the monitor also asks for conservation with bookings
// and reservations, for the order of the queue, that nobody overtakes and nobody starves,
// that policies are obeyed, that nothing ends before its time and that usage records add up.
//
// A run asks for safety, and every second one for liveness too: once the faults are undone
// and all holders have vanished, whoever waits gets every seat within a stated bound. A
// crash-point sweep (RunPoint) lets power fail in each single write of a scripted run. Both
// can be shown to find what they are for by sabotage, and by taking guards away (build tag
// mutants).
//
// Its words: a world is one run; an actor is anything with its own stream of random
// numbers; a fault is something the nemesis does and undoes; a violation is an
// invariant found broken, with its letter. Beside those of the design there are P1 and P2
// (granted, or refused, against the policy), Q1 (overtaken), Q2 (starved) and Q3 (a booking
// that was not kept).
//
// Its one rule: what judges shares nothing with what is judged. The monitor keeps its
// own account from the commands and answers it sees, and asks the Book only for what an
// operator could ask too.
//
// Its clock assumption: real time is the bubble's time. Node and client clocks drift
// from it by less than the margin; walls may be stepped at will.
package sim
