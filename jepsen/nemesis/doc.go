// Package nemesis breaks the service while clients use it.
//
// Its words: a family is a kind of fault; a fault is one of it, from its start to its
// end; its proof is what was observed of its effect; a fault that has none did not
// bite, and a run in which a family never bit is not conclusive.
//
// Its one rule: every fault is taken off again, by its own end or at the latest when the
// nemesis stops, and what cannot be taken off (a clock that has run ahead, a disk that
// was replaced) is said.
//
// Faults overlap when the schedule says so. The nemesis keeps count of which nodes
// work, and says in the history while no majority does: nobody can be served then.
//
// A schedule comes from a seed and nothing else. What the service makes of it depends on
// the machine, too.
package nemesis
