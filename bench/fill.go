package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// filler fills the cluster. Of the sessions it remembers the heartbeats of all, some in a
// message, if beats is not nil: a million sessions themselves would take more memory than
// the servers do.
type filler struct {
	t    *Target
	per  int
	made atomic.Int64

	mu    sync.Mutex
	beats map[string][]*pb.RenewBatchRequest // by tenant; the last of each may not be full
}

// fill checks out n leases more, in sessions that stay.
func (f *filler) fill(ctx context.Context, n int, feature func(int) string) error {
	_, err := f.fillSessions(ctx, n, feature, false)
	return err
}

// fillSessions is fill; with keep it returns the sessions.
func (f *filler) fillSessions(ctx context.Context, n int, feature func(int) string, keep bool) ([]*holder, error) {
	w, err := f.t.Dial(ctx, connsFor(fillers))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	done, finished := f.t.watch("fill leases", 0, int64(n))
	defer finished()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var kept []*holder
	var left atomic.Int64
	left.Store(int64(n))
	for range fillers {
		wg.Go(func() {
			for ctx.Err() == nil {
				before := left.Add(-int64(f.per)) + int64(f.per)
				if before <= 0 {
					return
				}
				h := f.holder(w, int(min(before, int64(f.per))), feature)
				if err := again(ctx, h.checkout); err != nil {
					cancel(fmt.Errorf("filling: %w", err))
					return
				}
				done.Add(int64(len(h.held)))
				f.remember(h)
				if keep {
					mu.Lock()
					kept = append(kept, h)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return kept, context.Cause(ctx)
}

// holder is the next session, with a lease of each of n features.
func (f *filler) holder(w *Wire, n int, feature func(int) string) *holder {
	i := int(f.made.Add(1))
	h := w.newHolder(i, 1)
	h.tenant = f.t.Tenants[i%len(f.t.Tenants)]
	h.streamed = true
	for k := range n {
		h.items = append(h.items, &pb.Item{Feature: feature(k)})
	}
	return h
}

// remember adds a session to the heartbeats of its tenant.
func (f *filler) remember(h *holder) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.beats == nil {
		return
	}
	list := f.beats[h.tenant]
	if len(list) == 0 || len(list[len(list)-1].SessionIds) == DefaultPerMessage*idBytes {
		list = append(list, &pb.RenewBatchRequest{Tenant: h.tenant, SessionIds: make([]byte, 0, DefaultPerMessage*idBytes),
			SessionSecrets: make([]byte, 0, DefaultPerMessage*len(h.secret))})
		f.beats[h.tenant] = list
	}
	h.addTo(list[len(list)-1])
}

// allBeats are the messages that renew every session once, tenant by tenant.
func (f *filler) allBeats() (all []*pb.RenewBatchRequest) {
	for _, tenant := range f.t.Tenants {
		all = append(all, f.beats[tenant]...)
	}
	return all
}
