package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
)

const (
	// rejoinBound is how long a killed node may take to be a follower again.
	rejoinBound = 60 * time.Second
	// failoverBound is how long the others may take to serve.
	failoverBound = 30 * time.Second
	// prober waits this long after a "no" of all nodes.
	proberPause = 2 * time.Millisecond
	// proberBound is how long one try may take: a dead node answers at once, and one
	// that is not yet leading says so.
	proberBound = 250 * time.Millisecond
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
	raw, sdk := load.NewSample(), load.NewSample()
	for range f.Kills {
		if err := f.once(ctx, t, w, load1, raw, sdk); err != nil {
			return err
		}
		done.Add(1)
	}
	for _, row := range []load.Row{raw.Row(RowFailover, f.Clients), sdk.Row(RowFailoverSDK, f.Clients)} {
		row.PerSecond = 0 // how often we kill says nothing
		r.Rows = append(r.Rows, row)
	}
	r.Notes = append(r.Notes,
		fmt.Sprintf("the leader is killed %d times with SIGKILL under the load of %d raw and %d SDK clients that check out and in without a pause", f.Kills, f.Clients, f.Clients),
		"time counts from just before the signal to the first acknowledged checkout that was sent after the process was gone",
		"the killed node is started again and follows before the next kill")
	return nil
}

// once is one kill.
func (f Failover) once(ctx context.Context, t *Target, w *Wire, l *failoverLoad, raw, sdk *load.Sample) error {
	leader, err := w.Find(ctx)
	if err != nil {
		return err
	}
	killed := time.Now()
	if err := t.Nodes.Kill(leader); err != nil {
		return err
	}
	// What was sent before the process was gone may have been answered by it.
	l.raw.expect(killed)
	l.sdk.expect(killed)
	for _, each := range []struct {
		*firstAck
		*load.Sample
	}{{l.raw, raw}, {l.sdk, sdk}} {
		took, err := each.wait(ctx)
		if err != nil {
			return fmt.Errorf("after the kill of %s: %w", leader, err)
		}
		each.Note(took)
	}
	if err := t.Nodes.Start(leader); err != nil {
		return err
	}
	if err := w.waitFollows(ctx, leader); err != nil {
		return err
	}
	pause(ctx, f.Rest)
	return ctx.Err()
}

// waitFollows waits until a node that was started again is a follower.
func (w *Wire) waitFollows(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, rejoinBound)
	defer cancel()
	for {
		if s, err := w.status(ctx); err == nil && slices.ContainsFunc(s.Nodes, func(n *pb.NodeStatus) bool {
			return n.Address == address && (n.Role == "follower" || n.Role == "leader") && n.StateHash != ""
		}) {
			return nil
		}
		pause(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("%s did not come back within %s", address, rejoinBound)
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
	got          chan time.Duration // capacity 1
}

func newFirstAck() *firstAck { return &firstAck{got: make(chan time.Duration, 1)} }

// expect begins to wait: the leader that was killed is gone now.
func (a *firstAck) expect(killed time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.killed, a.gone = killed, time.Now()
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

func (a *firstAck) wait(ctx context.Context) (time.Duration, error) {
	select {
	case took := <-a.got:
		return took, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(failoverBound):
		return 0, fmt.Errorf("no checkout was acknowledged within %s", failoverBound)
	}
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
		p := &prober{h: w.newHolder(i, f.Clients, t.Feature), at: i}
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

// work is an SDK client.
func (l *failoverLoad) work(ctx context.Context, c *sdkCycler) {
	for ctx.Err() == nil {
		sent := time.Now()
		leases, err := c.s.Checkout(ctx, c.item)
		if err != nil {
			pause(ctx, proberPause)
			continue
		}
		l.sdk.acked(sent)
		for _, lease := range leases {
			_ = lease.CheckIn(ctx)
		}
	}
}

// prober is a raw client that asks one node after the other until one says yes.
type prober struct {
	h  *holder
	at int
}

func (p *prober) work(ctx context.Context, first *firstAck) {
	nodes := p.h.w.target.Addresses
	for ctx.Err() == nil {
		sent := time.Now()
		err := p.try(ctx, nodes[p.at%len(nodes)])
		if err == nil {
			first.acked(sent)
			continue
		}
		p.at++
		pause(ctx, proberPause)
	}
}

// try checks out and in at one node. What it may have left behind after an error
// expires with its session.
func (p *prober) try(ctx context.Context, address string) error {
	cc, err := p.h.w.to(address, 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.h.w.target.signed(ctx), proberBound)
	defer cancel()
	h, seats := p.h, pb.NewSeatsClient(cc)
	h.renew()
	answer, err := seats.Checkout(ctx, &pb.CheckoutRequest{Items: h.items, User: h.user, Host: "bench",
		SessionId: h.id, SessionSecret: h.secret, Incarnation: 1, Seq: 1, Tenant: h.tenant})
	if err != nil {
		return err
	}
	_, _ = seats.Checkin(ctx, &pb.CheckinRequest{SessionId: h.id, SessionSecret: h.secret, Incarnation: 1, Seq: 2,
		LeaseIds: []uint64{answer.Leases[0].Id}, Close: true, Tenant: h.tenant})
	return nil
}
