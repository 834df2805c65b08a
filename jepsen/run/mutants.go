package run

import "github.com/seatkeeper/seatkeeper/jepsen/workload"

// Mutant is a bug that is sown on purpose, and the checker that must see it.
type Mutant struct {
	// Guard is the rule that the server is built without (SEATKEEPER_BROKEN), Client
	// the bug of the workload's own clients; one of them is set.
	Guard, Client string
	// Checkers are those that may see it: one is enough.
	Checkers []string
	// Faults are the families that bring it out.
	Faults []string
	What   string
}

// Mutants are the bugs that a run of the harness must find. Those that need hours, a
// snapshot or a sleeping machine are shown by the simulator instead.
func Mutants() []Mutant {
	return []Mutant{
		{Guard: "capacity", Checkers: []string{"C3", "C1"}, Faults: []string{"kill"}, What: "one seat more than there are"},
		{Guard: "token", Checkers: []string{"C4"}, Faults: []string{"kill"}, What: "fencing tokens do not grow"},
		{Guard: "release", Checkers: []string{"C5", "C1"}, Faults: []string{"kill"}, What: "a check-in frees nothing"},
		{Guard: "verify-read", Checkers: []string{"C12", "C2"}, Faults: []string{"partition-leader", "pause", "partition-leader", "pause"}, What: "reads without a leader check"},
		{Guard: "expire-time", Checkers: []string{"C10", "C3", "C1"}, Faults: []string{"pause", "kill"}, What: "a lease is reclaimed before its time"},
		{Guard: "expire-rev", Checkers: []string{"C10", "C3", "C1"}, Faults: []string{"client-cut", "client-cut", "client-cut"}, What: "a renewed lease is reclaimed"},
		{Guard: "monotonic", Checkers: []string{"C11", "C10"}, Faults: []string{"clock-jump", "clock-jump", "clock-jump"}, What: "leader time from the wall clock"},
		{Guard: "rebase", Checkers: []string{"C11", "C10", "C1"}, Faults: []string{"kill", "partition-leader", "kill"}, What: "a new leader's time does not go on from the committed one"},
		{Guard: "lost-time", Checkers: []string{"C11", "C10", "C3"}, Faults: []string{"pause", "hung-disk", "pause"}, What: "time in which nobody could commit is caught up"},
		{Guard: "seq", Checkers: []string{"C6", "C1"}, Faults: []string{"retry-storm", "loss", "retry-storm"}, What: "the same request has its effect again"},
		{Guard: "reattach", Checkers: []string{"C6", "C1"}, Faults: []string{"retry-storm"}, What: "asking again for what is held takes another seat"},
		{Guard: "incarnation", Checkers: []string{"C1", "C6"}, Faults: []string{"kill"}, What: "an older run of a client is not fenced"},
		{Client: workload.BugReceipt, Checkers: []string{"C3"}, Faults: []string{"client-delay", "client-delay"}, What: "a client counts its deadline from the answer"},
		{Client: workload.BugNewRequest, Checkers: []string{"C6"}, Faults: []string{"retry-storm", "loss", "client-cut"}, What: "a client asks again as somebody else"},
	}
}

// Name is what the mutant is called in tables.
func (m Mutant) Name() string {
	if m.Guard != "" {
		return m.Guard
	}
	return "client-" + m.Client
}
