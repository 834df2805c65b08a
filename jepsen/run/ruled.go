package run

import (
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
	"github.com/seatkeeper/seatkeeper/jepsen/workload"
)

// The pools of a run of the rules workload, and what they are for.
const (
	queuedPool   = "cad"
	bookedPool   = "solver"
	borrowedPool = "van"
)

func ruledPools() []node.Pool {
	return []node.Pool{
		{Feature: queuedPool, Count: 6, Lifespan: lifespan, Grace: grace},
		{Feature: bookedPool, Count: 4, Lifespan: lifespan, Grace: grace},
		{Feature: borrowedPool, Count: 3, Lifespan: lifespan, Grace: grace, Borrow: 24 * time.Hour},
	}
}

// ruledCrew crowds: more wait than are served.
var ruledCrew = workload.Crew{Waiters: 8, HTTPWaiters: 4, SDKWaiters: 2, Jobs: 3, Borrowers: 3, Operators: 1, Readers: 2}

// describeRuled fills in what test.edn says of such a run.
func describeRuled(t *checker.Test, load workload.Config) {
	t.Ruled = true
	t.Workload = fmt.Sprintf("rules: waiters %d by gRPC, %d by HTTP, %d by the SDK, jobs %d, borrowers %d, operators %d, readers %d at %.1f/s each",
		load.Waiters, load.HTTPWaiters, load.SDKWaiters, load.Jobs, load.Borrowers, load.Operators, load.Readers, load.Rate)
	t.Require = checker.Require{
		PerPool: map[string]int{"checkout/granted": 10, "checkin/done": 5},
		Overall: map[string]int{"checkout/queued": 20, "book/done": 5, "cancel/done": 1, "borrow/granted": 5, "return/done": 1, "revoke/done": 1,
			"policy/done": 4, "status/done": 20},
		PerFault: 5, Healthy: 20,
	}
}
