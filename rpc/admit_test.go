package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/lease"
)

// door is an admission on virtual time.
type door struct {
	*admission
	t *testing.T
}

func atDoor(t *testing.T, limits admitLimits, test func(d door)) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		d := door{newAdmission(limits, m), t}
		test(d)
		synctest.Wait()
		if len(d.tenants) != 0 || d.all != 0 || d.penalties.held+d.strange.held != 0 {
			t.Errorf("kept afterwards: %d rooms, %d requests, %d held", len(d.tenants), d.all, d.penalties.held)
		}
	})
}

var someLimits = admitLimits{perTenant: 60, shared: 16, quiet: 3, strangers: 8, perClient: 30, total: 4096, wait: 100 * time.Millisecond}

func (d door) ticket(tenant string, c class, who string) *ticket {
	return &ticket{a: d.admission, tenant: tenant, class: c, client: client{name: who}}
}

// inside lets n requests of clients of their own in.
func (d door) inside(tenant string, c class, n int) (list []*ticket) {
	d.t.Helper()
	for i := range n {
		tk := d.ticket(tenant, c, fmt.Sprint("in-", i))
		if err := tk.enter(d.t.Context()); err != nil {
			d.t.Fatalf("request %d of %d is refused: %v", i+1, n, err)
		}
		list = append(list, tk)
	}
	return list
}

// together lets n checkouts of a tenant in that come at the same time.
func (d door) together(tenant string, n int) (list []*ticket) {
	d.t.Helper()
	var known []<-chan error
	for i := range n {
		tk := d.ticket(tenant, asking, fmt.Sprint("in-", i))
		list, known = append(list, tk), append(known, d.queued(tk))
	}
	for i, err := range known {
		if err := <-err; err != nil {
			d.t.Fatalf("request %d of %d is refused: %v", i+1, n, err)
		}
	}
	return list
}

func leaveAll(list []*ticket) {
	for _, tk := range list {
		tk.leave()
		tk.leave() // a second time does nothing
	}
}

// queued sends a request to the line; what becomes of it comes on the channel.
func (d door) queued(tk *ticket) chan error {
	done := make(chan error, 1)
	go func() { done <- tk.enter(d.t.Context()) }()
	synctest.Wait()
	return done
}

func isOverloaded(err error) bool {
	var r *lease.Refusal
	return errors.As(err, &r) && r.Reason == lease.Overloaded && r.RetryAfter > 0 && !r.Final
}

func TestATenantHasSixtyRequestsInFlightAndNoMore(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		in := d.inside("a", asking, 60)
		late := d.queued(d.ticket("a", asking, "late"))
		time.Sleep(someLimits.wait)
		if err := <-late; !isOverloaded(err) {
			t.Errorf("the 61st: %v", err)
		}
		leaveAll(in)
	})
}

func TestHeartbeatsAreServedWhileCheckoutsAreRefused(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		in := d.inside("a", asking, 60) // and they hang
		for i := range queueFactor * 60 {
			go func() { _ = d.ticket("a", asking, fmt.Sprint("waits-", i)).enter(d.t.Context()) }()
		}
		synctest.Wait()
		if err := d.ticket("a", asking, "late").enter(d.t.Context()); !isOverloaded(err) {
			t.Errorf("a checkout beside a full line: %v", err)
		}
		keep := d.inside("a", keeping, 60)
		leaveAll(keep)
		time.Sleep(2 * someLimits.wait)
		leaveAll(in)
	})
}

func TestWhoGoesFirst(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		in := d.inside("a", asking, 60)
		var order []string
		var all sync.WaitGroup
		for i := range 20 {
			for _, c := range []class{reading, asking} {
				tk := d.ticket("a", c, fmt.Sprint(classNames[c], i))
				all.Go(func() {
					if err := tk.enter(d.t.Context()); err != nil {
						t.Error(err)
						return
					}
					order = append(order, classNames[tk.class])
					tk.leave()
				})
				synctest.Wait()
			}
		}
		in[0].leave() // one place, taken by all in turn
		all.Wait()
		reads := 0
		for _, name := range order[:20] {
			if name == "read" {
				reads++
			}
		}
		if len(order) != 40 || reads != 20/readTurn {
			t.Errorf("%d reads among the first 20 of %d: %v", reads, len(order), order)
		}
		leaveAll(in)
	})
}

// One client with many requests gets its turn, and no more than that.
func TestClientsOfATenantTakeTurns(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		in := d.inside("a", asking, 60)
		var order []string
		var all sync.WaitGroup
		send := func(who string) {
			tk := d.ticket("a", asking, who)
			all.Go(func() {
				if err := tk.enter(d.t.Context()); err != nil {
					t.Errorf("%s: %v", who, err)
					return
				}
				order = append(order, who)
				tk.leave()
			})
			synctest.Wait()
		}
		for range 25 {
			send("greedy")
		}
		for i := range 5 {
			send(fmt.Sprint("modest-", i))
		}
		in[0].leave()
		all.Wait()
		for i, who := range order[:6] {
			if i > 0 && who == "greedy" {
				t.Errorf("turn %d is the greedy client's again: %v", i, order[:6])
			}
		}
		leaveAll(in)
	})
}

func TestAFullLineMakesPlaceForAClientThatHasLess(t *testing.T) {
	limits := someLimits
	limits.perTenant, limits.shared, limits.perClient = 3, 3, 5
	atDoor(t, limits, func(d door) {
		in := d.inside("a", asking, 3)
		send := func(who string) (*ticket, chan error) {
			tk := d.ticket("a", asking, who)
			return tk, d.queued(tk)
		}
		var greedy []chan error
		var first *ticket
		for range 5 {
			tk, done := send("greedy")
			greedy = append(greedy, done)
			if first == nil {
				first = tk
			}
		}
		if err := d.ticket("a", asking, "greedy").enter(d.t.Context()); !isOverloaded(err) {
			t.Errorf("a sixth request of one client: %v", err)
		}
		one, oneDone := send("modest-0") // the line of six is full
		two, twoDone := send("modest-1")
		if err := <-greedy[4]; !isOverloaded(err) {
			t.Errorf("the newest of the greedy: %v", err)
		}
		leaveAll(in)
		for i, done := range []chan error{greedy[0], oneDone, twoDone} {
			if err := <-done; err != nil {
				t.Errorf("turn %d: %v", i, err)
			}
		}
		time.Sleep(someLimits.wait)
		for _, done := range greedy[1:4] {
			if err := <-done; !isOverloaded(err) {
				t.Errorf("the rest of the greedy: %v", err)
			}
		}
		leaveAll([]*ticket{first, one, two})
	})
}

func TestTenantsThatAreActiveTogetherHaveLessEach(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		in := d.inside("a", asking, 60)
		leaveAll(d.together("b", maxQuietAsks+1)) // are let in at once, whatever a does
		leaveAll(in[10:])
		more := d.inside("a", asking, someLimits.shared-10)
		late := d.queued(d.ticket("a", asking, "late"))
		time.Sleep(someLimits.wait)
		if err := <-late; !isOverloaded(err) {
			t.Errorf("more than its share: %v", err)
		}
		time.Sleep(3 * activeFor) // alone again
		rest := d.inside("a", asking, 60-someLimits.shared)
		leaveAll(append(append(in, more...), rest...))
	})
}

// A tenant that asks for little is the one that another's haste makes wait.
func TestBesideAQuietTenantOthersHaveFewCheckoutsInFlight(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		has := func(want int, c class, why string) {
			t.Helper()
			var in []*ticket
			known := make(map[*ticket]<-chan error)
			for i := range 80 {
				tk := d.ticket("a", c, fmt.Sprint("in-", i))
				known[tk] = d.queued(tk)
			}
			time.Sleep(d.patience(c))
			for tk, err := range known {
				if err := <-err; err == nil {
					in = append(in, tk)
				} else if !isOverloaded(err) {
					t.Error(err)
				}
			}
			if len(in) != want {
				t.Errorf("%s: a has %d in flight, want %d", why, len(in), want)
			}
			leaveAll(in)
			clear(d.penalties.of)
		}
		ask := func(tenant string, n int) { leaveAll(d.together(tenant, n)) }

		leaveAll(d.inside("b", keeping, 1))
		has(16, asking, "beside heartbeats alone")
		time.Sleep(3 * activeFor)
		ask("b", 1)
		has(3, asking, "beside one that asks for little")
		has(3, reading, "beside one that asks for little, reading")
		ask("b", maxQuietAsks+1)
		has(16, asking, "beside one that asks for much")
		// What it asked for counts for that second and for the next.
		time.Sleep(activeFor)
		ask("b", 1)
		has(16, asking, "beside one that asked for much in the last second")
		time.Sleep(3 * activeFor)
		has(60, asking, "alone again")
		ask("b", 1)
		has(16, keeping, "heartbeats and check-ins beside one that asks for little")
	})
}

// The same among the clients of one tenant: one that asks for much at once is not to slow its
// colleagues down.
func TestBesideAQuietClientAGreedyOneHasFewCheckoutsInFlight(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		greedy := func(n int) (asked []chan error, in *atomic.Int32) {
			in = new(atomic.Int32)
			for range n {
				tk, known := d.ticket("a", asking, "greedy"), make(chan error, 1)
				go func() {
					err := tk.enter(d.t.Context())
					if err == nil {
						in.Add(1)
						time.Sleep(10 * time.Millisecond)
						in.Add(-1)
						tk.leave()
					}
					known <- err
				}()
				asked = append(asked, known)
			}
			synctest.Wait()
			return asked, in
		}
		served := func(asked []chan error) {
			t.Helper()
			for i, err := range asked {
				if err := <-err; err != nil {
					t.Errorf("request %d of the greedy one: %v", i, err)
				}
			}
		}
		const n = 24
		asked, in := greedy(n)
		if in.Load() != n {
			t.Errorf("alone it has %d in flight, want %d", in.Load(), n)
		}
		served(asked)

		colleagues := d.inside("a", asking, 30)
		asked, in = greedy(n)
		begun := time.Now()
		for in.Load() > 0 {
			most := someLimits.quiet
			if time.Since(begun) <= 10*time.Millisecond {
				most = maxQuietAsks + 1 // by the ninth it is known
			}
			if got := int(in.Load()); got > most {
				t.Errorf("%d of the greedy one's are in flight beside quiet clients, want %d at most", got, most)
			}
			quiet := d.ticket("a", asking, "quiet")
			begin := time.Now()
			if err := quiet.enter(d.t.Context()); err != nil || time.Since(begin) > 0 {
				t.Errorf("a quiet client waits for %v: %v", time.Since(begin), err)
			}
			quiet.leave()
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		served(asked)
		var few []*ticket
		for range maxQuietAsks {
			few = append(few, d.ticket("a", asking, "busy"))
			begin := time.Now()
			if err := few[len(few)-1].enter(d.t.Context()); err != nil || time.Since(begin) > 0 {
				t.Errorf("request %d of a client that asks for few waits for %v: %v", len(few), time.Since(begin), err)
			}
		}
		leaveAll(append(few, colleagues...))

		asked, in = greedy(n)
		if in.Load() != n {
			t.Errorf("alone again it has %d in flight, want %d", in.Load(), n)
		}
		served(asked)
	})
}

func TestAllTenantsTogetherAreBoundedAndLeaveRoomForHeartbeats(t *testing.T) {
	limits := someLimits
	limits.total = 4
	atDoor(t, limits, func(d door) {
		var in []*ticket
		for i := range 3 {
			in = append(in, d.inside(fmt.Sprint("t", i), asking, 1)...)
		}
		if err := d.ticket("t9", asking, "x").enter(d.t.Context()); !isOverloaded(err) {
			t.Errorf("a fourth asking request fits into three quarters of four: %v", err)
		}
		in = append(in, d.inside("t9", keeping, 1)...)
		leaveAll(in)
	})
}

// Ignoring Retry-After brings no more than heeding it.
func TestAClientThatComesBackTooSoonIsHeld(t *testing.T) {
	limits := someLimits
	limits.perTenant, limits.shared = 1, 1
	atDoor(t, limits, func(d door) {
		in := d.inside("a", asking, 1)
		err := d.ticket("a", asking, "hasty").enter(d.t.Context())
		var refusal *lease.Refusal
		if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		leaveAll(in)
		begin := time.Now()
		tk := d.ticket("a", asking, "hasty")
		other := d.inside("a", asking, 1) // others are not held
		leaveAll(other)
		if err := tk.enter(d.t.Context()); err != nil {
			t.Error(err)
		}
		if held := time.Since(begin); held < refusal.RetryAfter {
			t.Errorf("let in after %v, was asked to wait %v", held, refusal.RetryAfter)
		}
		tk.leave()
		begin = time.Now()
		if err := tk.enter(d.t.Context()); err != nil || time.Since(begin) > 0 {
			t.Errorf("held a second time: %v, %v", time.Since(begin), err)
		}
		tk.leave()
		keep := d.ticket("a", keeping, "hasty")
		if err := keep.enter(d.t.Context()); err != nil || time.Since(begin) > 0 {
			t.Errorf("a heartbeat was held: %v, %v", time.Since(begin), err)
		}
		keep.leave()
	})
}

// Requests of one client that were refused together and come back together are tried again one
// after the other: refused in one moment, they would take the processor from everybody else.
func TestRequestsOfOneClientDoNotComeBackTogether(t *testing.T) {
	atDoor(t, someLimits, func(d door) {
		held := d.inside("a", asking, someLimits.perTenant)
		greedy := func() *ticket { return d.ticket("a", asking, "greedy") }
		var refusal *lease.Refusal
		if err := greedy().enter(d.t.Context()); !errors.As(err, &refusal) {
			t.Fatalf("is let into a full room: %v", err)
		}
		leaveAll(held)
		const n = 400
		begin := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		perTenth := map[time.Duration]int{}
		var first, last time.Duration
		for range n {
			wg.Go(func() {
				tk := greedy()
				if err := tk.enter(d.t.Context()); err != nil {
					t.Errorf("refused by an empty room: %v", err)
				}
				at := time.Since(begin)
				tk.leave()
				mu.Lock()
				defer mu.Unlock()
				perTenth[at/(100*time.Millisecond)]++
				if first == 0 {
					first = at
				}
				last = at
			})
		}
		wg.Wait()
		if told := refusal.RetryAfter; first < told-early || last > told+heldApart {
			t.Errorf("came back after %v to %v, was asked to wait %v", first, last, told)
		}
		for tenth, got := range perTenth {
			if got > n/4 {
				t.Errorf("%d of %d came back in the tenth of a second after %v", got, n, tenth*100*time.Millisecond)
			}
		}
	})
}

// Five hundred clients of one tenant ask at once and again and again, some as the SDK
// does and some without any pause; every one is served, and another tenant is never
// refused and never waits for a place.
func TestFiveHundredClientsAreAllServedAndAnotherTenantNotesNothing(t *testing.T) {
	for name, heed := range map[string]bool{"that heed Retry-After": true, "that ignore Retry-After": false} {
		t.Run(name, func(t *testing.T) {
			atDoor(t, someLimits, func(d door) {
				ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
				defer cancel()
				const clients, work = 500, 3 * time.Millisecond
				served, refused := make([]int, clients), make([]int, clients)
				var all sync.WaitGroup
				for i := range clients {
					all.Go(func() {
						for ctx.Err() == nil {
							tk := d.ticket("loud", asking, fmt.Sprint("c", i))
							err := tk.enter(ctx)
							var refusal *lease.Refusal
							switch {
							case err == nil:
								time.Sleep(work)
								tk.leave()
								served[i]++
							case errors.As(err, &refusal):
								if refused[i]++; refused[i] > 1000 {
									t.Errorf("client %d is refused without end", i)
									return
								}
								if heed {
									time.Sleep(refusal.RetryAfter)
								}
							}
						}
					})
				}
				all.Go(func() {
					for ctx.Err() == nil {
						tk := d.ticket("quiet", asking, "q")
						begin := time.Now()
						if err := tk.enter(ctx); err != nil || time.Since(begin) > 0 {
							t.Errorf("the quiet tenant waited %v: %v", time.Since(begin), err)
							return
						}
						tk.leave()
						time.Sleep(5 * time.Millisecond)
					}
				})
				all.Wait()
				total, most := 0, 0
				for i := range served {
					if served[i] < 5 {
						t.Errorf("client %d was served %d times", i, served[i])
					}
					total += refused[i]
					most = max(most, refused[i])
				}
				// Each is refused at most about once in the shortest Retry-After.
				if most > 20*2+2 {
					t.Errorf("a client was refused %d times in 20 s", most)
				}
				t.Logf("%d refusals in 20 s", total)
			})
		})
	}
}

// inFlight is how many requests are inside or wait.
func (a *admission) inFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}
