package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Failover kills the leader (SIGKILL) under load, again and again, and measures how
// long no checkout is acknowledged.
type Failover struct {
	Kills int
	// Clients make load all the time; each is also a watcher.
	Clients int
	// Rest is how long the cluster works in full between a node's return and the next
	// kill.
	Rest time.Duration
}

// Rows of a failover.
const (
	// RowFailover counts from the kill to the first acknowledged checkout that was sent
	// after it, for clients that ask all nodes without a pause.
	RowFailover = "failover"
	// RowFailoverSDK is the same for clients of the SDK with its own pauses.
	RowFailoverSDK = "failover, SDK"
	// RowFollows is how long a killed node takes from its start until it follows.
	RowFollows = "failover: killed node started, to following again"
)

// Values of a failover.
const (
	ValueKills    = "kills"
	ValueLateAck  = "kills after which nobody was served within 10 s"
	ValueLateNode = "killed nodes that did not follow again within 30 s"
)

const (
	// lateAck and lateNode are what the report calls late: far beyond any time-out of the
	// cluster, so that it is not a slow machine that is told of.
	lateAck, lateNode = 10 * time.Second, 30 * time.Second
	// failoverBound and followBound are after how long nothing works any more, and the
	// benchmark ends.
	failoverBound, followBound = 2 * time.Minute, 5 * time.Minute
)

// Run kills and measures.
func (f Failover) Run(ctx context.Context, t *Target, r *load.Report) error {
	switch {
	case t.Nodes == nil:
		return errors.New("failover kills servers: let bench start its own (leave out --addr)")
	case f.Kills < 1 || f.Clients < 1:
		return fmt.Errorf("%d kills, %d clients: use 1 or more of each", f.Kills, f.Clients)
	}
	if err := t.validate(f.Clients); err != nil {
		return err
	}
	w, err := t.Dial(ctx, 1)
	if err != nil {
		return err
	}
	defer w.Close()
	load1, err := f.startLoad(ctx, t, w)
	if err != nil {
		return err
	}
	defer load1.stop()
	done, finished := t.watch("kills", 0, int64(f.Kills))
	defer finished()
	k := kills{w: w, load: load1, raw: load.NewSample(), sdk: load.NewSample(), follows: load.NewSample()}
	for i := range f.Kills {
		if err := k.once(ctx); err != nil {
			return fmt.Errorf("kill %d of %d: %w", i+1, f.Kills, err)
		}
		done.Add(1)
		pause(ctx, f.Rest)
	}
	for _, row := range []load.Row{k.raw.Row(RowFailover, f.Clients), k.sdk.Row(RowFailoverSDK, f.Clients), k.follows.Row(RowFollows, f.Clients)} {
		row.PerSecond = 0 // how often we kill says nothing
		r.Rows = append(r.Rows, row)
	}
	r.Add(ValueKills, float64(f.Kills), "times")
	r.Add(ValueLateAck, k.lateAcks, "times")
	r.Add(ValueLateNode, k.lateNodes, "times")
	r.Notes = append(r.Notes,
		fmt.Sprintf("the leader is killed %d times with SIGKILL under the load of %d raw and %d SDK clients that check out and in without a pause", f.Kills, f.Clients, f.Clients),
		"time counts from just before the signal to the first acknowledged checkout that was sent after the process was gone; a request whose answer the kill swallowed is sent again with its number until somebody answers it",
		"the killed node is started again and follows before the next kill")
	return nil
}

// kills is a series of them.
type kills struct {
	w                   *Wire
	load                *failoverLoad
	raw, sdk, follows   *load.Sample
	lateAcks, lateNodes float64
}

// once is one kill.
func (k *kills) once(ctx context.Context) error {
	leader, err := k.w.Find(ctx)
	if err != nil {
		return err
	}
	nodes, killed := k.w.target.Nodes, time.Now()
	if err := nodes.Kill(leader); err != nil {
		return err
	}
	// What was sent before the process was gone may have been answered by it.
	k.load.raw.expect(killed)
	k.load.sdk.expect(killed)
	for _, each := range []struct {
		*firstAck
		*load.Sample
	}{{k.load.raw, k.raw}, {k.load.sdk, k.sdk}} {
		took, err := each.wait(ctx, failoverBound)
		if err != nil {
			return fmt.Errorf("after the end of %s: %w", leader, err)
		}
		each.Note(took)
		if took > lateAck {
			k.lateAcks++
		}
	}
	began := time.Now()
	if err := nodes.Start(leader); err != nil {
		return err
	}
	if err := k.w.waitFollows(ctx, leader); err != nil {
		return err
	}
	took := time.Since(began)
	k.follows.Note(took)
	if took > lateNode {
		k.lateNodes++
	}
	return ctx.Err()
}

// waitFollows waits until a node that was started again is a follower.
func (w *Wire) waitFollows(ctx context.Context, address string) error {
	bounded, cancel := context.WithTimeout(ctx, followBound)
	defer cancel()
	last := "nobody was asked"
	for {
		s, err := w.status(bounded)
		switch {
		case err != nil:
			last = err.Error()
		default:
			last = "it is no member"
			for _, n := range s.Nodes {
				if n.Address != address {
					continue
				}
				if (n.Role == "follower" || n.Role == "leader") && n.StateHash != "" {
					return nil
				}
				last = "its role is " + n.Role
			}
		}
		pause(bounded, 20*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bounded.Err() != nil {
			return fmt.Errorf("%s did not come back within %s: %s", address, followBound, last)
		}
	}
}

// status asks the leader once.
func (w *Wire) status(ctx context.Context) (*pb.StatusResponse, error) {
	leader, err := w.Find(ctx)
	if err != nil {
		return nil, err
	}
	cc, err := w.to(leader, 0)
	if err != nil {
		return nil, err
	}
	call, cancel := w.target.call(ctx)
	defer cancel()
	return pb.NewClusterClient(cc).Status(call, &pb.StatusRequest{})
}

// firstAck waits for the first answer to something that was sent after a moment.
type firstAck struct {
	mu           sync.Mutex
	killed, gone time.Time
	refused      map[string]int     // reasons since then
	last         string             // what was said with the last of them
	got          chan time.Duration // capacity 1
}

func newFirstAck() *firstAck { return &firstAck{got: make(chan time.Duration, 1)} }

// expect begins to wait: the leader that was killed is gone now.
func (a *firstAck) expect(killed time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.killed, a.gone, a.refused = killed, time.Now(), map[string]int{}
}

// acked is told of every acknowledged checkout.
func (a *firstAck) acked(sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone.IsZero() || !sent.After(a.gone) {
		return
	}
	a.got <- time.Since(a.killed)
	a.gone = time.Time{}
}

// no is told of every checkout that was not acknowledged, and why.
func (a *firstAck) no(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone.IsZero() {
		return
	}
	reason := "error"
	var r *load.Reasoned
	if errors.As(err, &r) {
		reason = r.Reason
	}
	a.refused[reason]++
	a.last = err.Error()
}

func (a *firstAck) wait(ctx context.Context, bound time.Duration) (time.Duration, error) {
	select {
	case took := <-a.got:
		return took, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(bound):
		return 0, fmt.Errorf("no checkout was acknowledged within %s; the clients were told: %s", bound, a.told())
	}
}

// told lists the reasons since the kill, and how often each was heard.
func (a *firstAck) told() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.refused) == 0 {
		return "nothing at all"
	}
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(a.refused)) {
		list = append(list, fmt.Sprintf("%s (%d times)", reason, a.refused[reason]))
	}
	return strings.Join(list, ", ") + "; at last: " + a.last
}

// failoverLoad is the clients that work all the time.
type failoverLoad struct {
	raw, sdk *firstAck
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	clients  *sdkClients
}

func (f Failover) startLoad(ctx context.Context, t *Target, w *Wire) (*failoverLoad, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &failoverLoad{raw: newFirstAck(), sdk: newFirstAck(), cancel: cancel}
	var err error
	if l.clients, err = t.sdkClients(f.Clients, sessionsPerClient); err != nil {
		cancel()
		return nil, err
	}
	for i := range f.Clients {
		s, err := l.clients.session(ctx, i, sessionsPerClient)
		if err != nil {
			l.stop()
			return nil, err
		}
		l.wg.Go(func() { l.work(ctx, &sdkCycler{s, client.Item{Feature: t.Feature}}) })
		p := w.newProber(i, f.Clients)
		l.wg.Go(func() { p.work(ctx, l.raw) })
	}
	return l, nil
}

func (l *failoverLoad) stop() {
	ctx := context.Background()
	l.cancel()
	l.wg.Wait()
	l.clients.close(ctx)
}

// work is an SDK client. What it could not give back its session still holds, and the
// next checkout finds.
func (l *failoverLoad) work(ctx context.Context, c *sdkCycler) {
	for ctx.Err() == nil {
		sent := time.Now()
		leases, err := c.s.Checkout(ctx, c.item)
		if err != nil {
			l.sdk.no(sdkReason(err))
			pause(ctx, proberPause)
			continue
		}
		l.sdk.acked(sent)
		for _, lease := range leases {
			_ = lease.CheckIn(ctx)
		}
	}
}
