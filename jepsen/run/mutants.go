package run

import (
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/workload"
)

// Mutant is a bug that is sown on purpose, and the checker that must see it.
type Mutant struct {
	Name string
	// Broken are the rules that the servers do without (SEATKEEPER_BROKEN, see the guards
	// of package lease), Client the bug of the workload's own clients; one of them is set.
	Broken, Client string
	// Checker is the one that must turn red, and be valid in the same scene without the bug.
	Checker string
	Scene   *Scene
	What    string
}

// Scene is a short run that brings a bug out: who works, and what breaks.
type Scene struct {
	Name string
	Crew workload.Crew
	// Ruled: they use what the rules workload uses, with its pools.
	Ruled bool
	// Rate is how many operations a second one worker starts.
	Rate float64
	// Warm and After are load before the faults and after them.
	Warm, After time.Duration
	// Term, if set, is how long a lease lasts without a heartbeat, a third of it as grace.
	Term time.Duration
	// Plenty: there are so many seats that nobody is refused for want of one.
	Plenty bool
	// Faults are families, made one after the other; Last, if set, is how long each lasts.
	Faults []string
	Last   time.Duration
	// SnapshotEntries, if set, is after how many entries servers make a snapshot.
	SnapshotEntries int
}

// The scenes. Workers wait less than in a long run, so that seconds are enough.
var (
	// quiet breaks nothing: the bugs it is for show in ordinary work.
	quiet = &Scene{Name: "quiet", Crew: workload.Crew{GRPC: 4, HTTP: 4, Reconnect: 2, Fenced: 2, Readers: 2}, Rate: 8, Warm: 8 * time.Second, Term: 3 * time.Second}
	// staleReads: a leader is cut off from its peers, not from its clients.
	staleReads = &Scene{Name: "stale-reads", Crew: workload.Crew{GRPC: 4, HTTP: 4, Readers: 12}, Rate: 12, Warm: 2 * time.Second, Term: 3 * time.Second, After: time.Second,
		Faults: []string{"partition-leader", "partition-leader", "partition-leader", "partition-leader"}, Last: 3 * time.Second}
	// lateBeats: most clients let their leases run out.
	lateBeats = &Scene{Name: "late-beats", Crew: workload.Crew{GRPC: 3, Late: 8}, Rate: 4, Warm: 12 * time.Second, Term: 3 * time.Second}
	// restarted: all nodes come back from snapshots, to clients that ask again.
	restarted = &Scene{Name: "restarted", Crew: workload.Crew{GRPC: 6, HTTP: 3, Reconnect: 3, Readers: 2}, Rate: 10, Warm: 3 * time.Second, Term: 3 * time.Second, After: 5 * time.Second,
		Faults: []string{"answers-lost-restart"}, SnapshotEntries: 8}
	// asksAgain: requests come in and their answers do not get out. Leases last and seats are
	// plenty, so that there is one for a second try while the first one has its own.
	asksAgain = &Scene{Name: "asks-again", Crew: workload.Crew{GRPC: 6, HTTP: 3, Reconnect: 3}, Rate: 8, Warm: 2 * time.Second, Term: 12 * time.Second, Plenty: true,
		After: 4 * time.Second, Faults: []string{"answers-lost", "answers-lost"}}
	// clockAhead: the leader's wall clock is put forward by an hour.
	clockAhead = &Scene{Name: "clock-ahead", Crew: workload.Crew{GRPC: 4, HTTP: 2, Readers: 2}, Rate: 8, Warm: 8 * time.Second, Term: 3 * time.Second, After: 2 * time.Second,
		Faults: []string{"clock-ahead"}}
	// newLeaders: leadership moves to a process that is young, and back.
	newLeaders = &Scene{Name: "new-leaders", Crew: workload.Crew{GRPC: 4, HTTP: 2, Readers: 2}, Rate: 8, Warm: 8 * time.Second, Term: 3 * time.Second, After: 2 * time.Second,
		Faults: []string{"leader-of-another-age"}}
	// stalledDisk: the leader can commit nothing for longer than a step of cluster time, and
	// not long enough to give up.
	stalledDisk = &Scene{Name: "stalled-disk", Crew: workload.Crew{GRPC: 4, HTTP: 2, Readers: 2}, Rate: 8, Warm: 8 * time.Second, Term: 3 * time.Second, After: 3 * time.Second,
		Faults: []string{"hung-disk", "hung-disk"}, Last: 3700 * time.Millisecond}
	// powerCut: the power fails for all nodes at once.
	powerCut = &Scene{Name: "power-cut", Crew: workload.Crew{GRPC: 4, HTTP: 4, Readers: 2}, Rate: 8, Warm: 3 * time.Second, Term: 3 * time.Second, After: 2 * time.Second,
		Faults: []string{"power-all"}}
	// lateAnswers: what clients heard last was old when they heard it.
	lateAnswers = &Scene{Name: "late-answers", Crew: workload.Crew{GRPC: 12, HTTP: 3}, Rate: 8, Warm: 2 * time.Second, Term: 3 * time.Second, After: time.Second,
		Faults: []string{"late-answers-cut", "late-answers-cut", "late-answers-cut", "late-answers-cut"}}
	// rules: the queue, bookings, borrowed seats and policies, and nothing breaks.
	rules = &Scene{Name: "rules", Crew: ruledCrew, Ruled: true, Rate: 8, Warm: 25 * time.Second}
	// writesLate: what the leader sends it has not written itself.
	writesLate = &Scene{Name: "writes-late", Crew: workload.Crew{GRPC: 4, HTTP: 4, Readers: 2}, Rate: 8, Warm: 2 * time.Second, Term: 3 * time.Second, After: 2 * time.Second,
		Faults: []string{"leader-writes-late"}}
	// newDisk: a node with an empty disk is asked for its vote by one that is behind.
	newDisk = &Scene{Name: "new-disk", Crew: workload.Crew{GRPC: 4, HTTP: 4, Readers: 2}, Rate: 8, Warm: 2 * time.Second, Term: 3 * time.Second, After: 2 * time.Second,
		Faults: []string{"empty-disk-votes"}}
)

// Mutants are the bugs that the harness must find.
func Mutants() []Mutant {
	return []Mutant{
		{Name: "capacity", Broken: "capacity", Checker: "C3", Scene: quiet, What: "one seat more is granted than there are"},
		{Name: "stale-read", Broken: "verify-read", Checker: "C12", Scene: staleReads, What: "reads are answered without a leader check: the newest epoch that a node knows being its own is enough"},
		{Name: "expire-unchecked", Broken: "epoch,term,expire-token,expire-rev,expire-time", Checker: "C10", Scene: lateBeats,
			What: "leases are reclaimed unjudged: no look at term, revision or time, and a leader that is early"},
		{Name: "clock-in-apply", Broken: "stamp", Checker: "C7", Scene: quiet, What: "Apply reads the clock of its own machine"},
		{Name: "map-order", Broken: "order", Checker: "C7", Scene: quiet, What: "Apply goes through leases in a map's order"},
		{Name: "dedupe-not-saved", Broken: "dedupe-saved", Checker: "C1", Scene: restarted, What: "snapshots lack what was answered last"},
		{Name: "dedupe-by-connection", Broken: "seq,stale-seq,reattach", Checker: "C6", Scene: asksAgain, What: "on another connection a request asked again takes effect again"},
		{Name: "token", Broken: "token", Checker: "C4", Scene: quiet, What: "fencing tokens come from a counter that does not last"},
		{Name: "wall-clock", Broken: "monotonic", Checker: "C11", Scene: clockAhead, What: "the leader's time is its wall clock"},
		{Name: "time-restarts", Broken: "rebase", Checker: "C11", Scene: newLeaders, What: "a new leader counts time from its own start"},
		{Name: "time-caught-up", Broken: "lost-time", Checker: "C11", Scene: stalledDisk, What: "time in which nobody could commit is made up for"},
		{Name: "no-sync", Broken: "sync", Checker: "C8", Scene: powerCut, What: "the log is acknowledged before it is on the disk"},
		{Name: "forgets-check-in", Broken: "release", Checker: "C1", Scene: quiet, What: "a check-in frees nothing"},
		{Name: "deadline-from-answer", Client: workload.BugReceipt, Checker: "C3", Scene: lateAnswers, What: "a client counts its deadline from the answer"},
		{Name: "new-request-id", Client: workload.BugNewRequest, Checker: "C6", Scene: asksAgain, What: "a client asks again as somebody else"},
		{Name: "seat-too-many", Broken: "capacity", Checker: "R1", Scene: rules, What: "one seat more is granted than there are, beside what is booked and reserved"},
		{Name: "reserved-given-away", Broken: "reserve", Checker: "R1", Scene: rules, What: "seats that are reserved for somebody are given to others"},
		{Name: "overtakes", Broken: "overtake", Checker: "R2", Scene: rules, What: "whoever asks is served before those who wait"},
		{Name: "queue-not-served", Broken: "serve", Checker: "R2", Scene: rules, What: "seats that come free are not given to those who wait"},
		{Name: "no-quarantine", Broken: "quarantine", Checker: "R3", Scene: rules, What: "a borrowed seat is free as soon as it is revoked"},
		{Name: "booked-given-away", Broken: "booked", Checker: "R4", Scene: rules, What: "seats that are booked are given to others"},
		{Name: "cap-not-kept", Broken: "max", Checker: "R5", Scene: rules, What: "a cap of the policy does not hold"},
		{Name: "excluded-served", Broken: "exclude", Checker: "R5", Scene: rules, What: "who is excluded by the policy is served"},
		{Name: "empty-disk-votes", Broken: "identity", Checker: "C8", Scene: newDisk, What: "an emptied node passes for the one it was"},
		{Name: "own-write", Broken: "own-write", Checker: "C8", Scene: writesLate, What: "a leader answers when a follower has an entry, before its own disk has it"},
	}
}
