package workload

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// maxHeld bounds what one worker of the seats workload holds.
const maxHeld = 3

// runHeld is a worker of the seats workload that keeps its session by hand.
func runHeld(ctx context.Context, w *worker) error {
	a, err := w.api()
	if err != nil {
		return err
	}
	h := newHolder(a, w, "")
	for ctx.Err() == nil {
		w.think(ctx)
		if w.storming() {
			a.Drop()
		}
		if w.control.Mode() == Closing {
			return h.closeSession(ctx)
		}
		w.seatsStep(ctx, h)
	}
	return nil
}

// seatsStep is one operation of a worker with a session of its own.
func (w *worker) seatsStep(ctx context.Context, h *holder) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h.sweep()
	if h.beatDue() {
		_ = h.renew(ctx)
		return
	}
	if again, _ := h.askAgain(ctx); again || w.control.Mode() != Load {
		return
	}
	ids := h.ids()
	switch k := w.rng.IntN(100); {
	case k < 45 && len(ids) < maxHeld:
		f := w.feature()
		_, _ = h.checkout(ctx, h.voice.newRequest(), history.Item{Feature: f, Count: w.count(f)})
	case k < 68 && len(ids) > 0:
		_ = h.checkin(ctx, false, ids[w.rng.IntN(len(ids))])
	case k < 71 && len(ids) > 0:
		_ = h.checkin(ctx, w.rng.IntN(2) == 0)
	case k < 77 && len(ids) > 0:
		h.verify(ctx, ids[w.rng.IntN(len(ids))])
	case k < 82:
		h.status(ctx, false, "")
	case k < 86:
		h.leases(ctx, w.feature(), false, "")
	case k == 86:
		h.kill(ctx, w.feature())
	case k < 98 && len(ids) > 0:
		_ = h.renew(ctx) // before its time: else a short run sees too few
	}
}

func (h *holder) verify(ctx context.Context, id uint64) {
	ask := history.Verify{ID: id, Token: h.held[id].lease.Token}
	h.voice.do(h.op(history.FVerify, "", 0, &ask), func() outcome {
		answer, err := h.api.Verify(ctx, &pb.VerifyRequest{LeaseId: ask.ID, FencingToken: ask.Token, Tenant: h.tenant})
		if err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result, got.Valid = history.Done, answer.Valid
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
}

// status and leases read from the leader, or with a node's name from that node's own
// state.
func (h *holder) status(ctx context.Context, stale bool, node string) {
	readStatus(ctx, h.voice, h.api, h.tenant, stale, node)
}

func readStatus(ctx context.Context, v *voice, a api, tenant string, stale bool, node string) *pb.StatusResponse {
	ask := history.Status{Stale: stale}
	var answer *pb.StatusResponse
	v.do(history.Op{F: history.FStatus, Value: &ask, Node: node}, func() outcome {
		var err error
		if answer, err = a.Status(ctx, &pb.StatusRequest{Tenant: tenant, Stale: stale}); err != nil {
			answer = nil
			return outcome{err: err, node: node}
		}
		got := ask
		got.Result, got.Leader, got.Epoch, got.ClusterTimeMS = history.Done, answer.Leader, answer.Epoch, int64(answer.ClusterTimeMs)
		got.Sessions, got.Leases = int(answer.Sessions), int(answer.Leases)
		for _, p := range answer.Pools {
			got.Pools = append(got.Pools, history.PoolUse{Tenant: p.Tenant, Feature: p.Feature, Version: p.Version, Total: int(p.Total), InUse: int(p.InUse)})
		}
		for _, n := range answer.Nodes {
			got.Nodes = append(got.Nodes, history.NodeState{ID: n.Id, Role: n.Role, Applied: n.AppliedIndex, Hash: n.StateHash})
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term, node: node}
	})
	return answer
}

func (h *holder) leases(ctx context.Context, feature string, stale bool, node string) {
	readLeases(ctx, h.voice, h.api, h.tenant, feature, stale, node)
}

func readLeases(ctx context.Context, v *voice, a api, tenant, feature string, stale bool, node string) *pb.LeasesResponse {
	ask := history.Leases{Feature: feature, Stale: stale}
	var answer *pb.LeasesResponse
	v.do(history.Op{F: history.FLeases, Value: &ask, Node: node}, func() outcome {
		var err error
		if answer, err = a.Leases(ctx, &pb.LeasesRequest{Tenant: tenant, Feature: feature, Stale: stale}); err != nil {
			answer = nil
			return outcome{err: err, node: node}
		}
		got := ask
		got.Result, got.Complete = history.Done, answer.NextPageToken == ""
		for _, l := range answer.Leases {
			got.Leases = append(got.Leases, entryOf(l))
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term, node: node}
	})
	return answer
}

func entryOf(l *pb.LeaseEntry) history.Lease {
	x := history.Lease{ID: l.Id, Handle: uint64(l.Handle), Feature: l.Feature, Version: l.Version, Count: int(l.Count), Token: l.FencingToken,
		State: l.State, RemainingMS: int64(l.RemainingMs), GraceMS: int64(l.GraceMs), User: l.User, Host: l.Host, Session: l.SessionId}
	for _, s := range l.Seats {
		x.Seats = append(x.Seats, int(s))
	}
	return x
}

// kill takes back, as an operator would, whatever somebody holds of a feature: one
// lease at random.
func (h *holder) kill(ctx context.Context, feature string) {
	listed := readLeases(ctx, h.voice, h.api, h.tenant, feature, false, "")
	if listed == nil || len(listed.Leases) == 0 {
		return
	}
	victim := listed.Leases[h.rng.IntN(len(listed.Leases))]
	ask := history.Kill{IDs: []uint64{victim.Id}}
	h.voice.do(h.op(history.FKill, h.voice.newRequest(), 0, &ask), func() outcome {
		answer, err := h.api.Kill(ctx, &pb.KillRequest{Tenant: h.tenant, LeaseIds: ask.IDs})
		if err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result = history.Done
		for _, l := range answer.Killed {
			got.Killed = append(got.Killed, entryOf(l))
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
}

// runReader reads from every node in turn, and now and then from the leader.
func runReader(ctx context.Context, w *worker) error {
	a := newHTTP(w.place, w.cfg.Addresses, w.rng.IntN)
	for i := 0; ctx.Err() == nil; i++ {
		w.think(ctx)
		if w.control.Mode() == Closing {
			return nil
		}
		func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			switch {
			case i%3 == 0:
				a.node = ""
				readStatus(ctx, w.voice, a, "", false, "")
			default:
				k := i % len(w.cfg.Addresses)
				a.node = w.cfg.Addresses[k]
				readStatus(ctx, w.voice, a, "", true, w.cfg.Names[k])
			}
		}()
	}
	return nil
}

// runSurge is one of a crowd: it comes in when the crowd is let in, takes a seat of
// some tenant, and leaves.
func runSurge(ctx context.Context, w *worker) error {
	a, err := w.api()
	if err != nil {
		return err
	}
	var h *holder
	for ctx.Err() == nil {
		if w.control.Mode() == Closing {
			if h != nil {
				return h.closeSession(ctx)
			}
			return nil
		}
		if h == nil && !w.control.surge.Load() || w.control.Mode() == Quiet {
			w.nap(ctx, time.Second)
			continue
		}
		if h == nil {
			h = newHolder(a, w, w.cfg.Tenants[w.rng.IntN(len(w.cfg.Tenants))])
		}
		if w.surgeStep(ctx, h) {
			h = nil
		}
		w.nap(ctx, time.Duration(20+w.rng.IntN(60))*time.Millisecond)
	}
	return nil
}

// surgeStep takes a seat and ends the session; it says whether the session is over.
func (w *worker) surgeStep(ctx context.Context, h *holder) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if again, _ := h.askAgain(ctx); again {
		return h.again == nil && h.seq == 0
	}
	if h.seq == 0 {
		_, _ = h.checkout(ctx, h.voice.newRequest(), history.Item{Feature: CrowdFeature(h.tenant), Count: 1})
		return h.again == nil && h.seq == 0
	}
	_ = h.checkin(ctx, true)
	return h.again == nil && h.seq == 0
}

// Observer makes the looks at the pools that the end of a run needs.
type Observer struct {
	voice *voice
	api   api
}

// NewObserver looks from a place that no fault touches.
func NewObserver(rec *Recorder, p Place, addresses []string) *Observer {
	next := 0
	return &Observer{voice: rec.voice("observer", "http"), api: newHTTP(p, addresses, func(n int) int { next++; return next % n })}
}

// Look reads pools and leases, asking every node a few times.
func (o *Observer) Look(ctx context.Context) {
	const looks = 6
	for range looks {
		one, cancel := context.WithTimeout(ctx, callTimeout)
		readStatus(one, o.voice, o.api, "", false, "")
		readLeases(one, o.voice, o.api, "", "", false, "")
		cancel()
	}
}
