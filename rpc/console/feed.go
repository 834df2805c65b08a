package console

import (
	"bytes"
	"context"
	"net/http"
	"time"
)

// feed looks for all viewers who see the same.
type feed struct {
	viewers map[chan []byte]struct{}
	stop    context.CancelFunc
}

// join adds a viewer; frames is closed when the API refuses it from now on. It fails when
// there are as many viewers as may be.
func (h *hub) join(r *http.Request, paths []string) (frames <-chan []byte, leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.viewers >= maxViewers {
		return nil, nil, false
	}
	h.viewers++
	key := viewedBy(r)
	f := h.feeds[key]
	if f == nil {
		// The feed outlives the request of its first viewer, and asks as it did.
		ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
		f = &feed{viewers: map[chan []byte]struct{}{}, stop: stop}
		h.feeds[key] = f
		go h.run(ctx, key, f, r, paths)
	}
	ch := make(chan []byte, 1)
	f.viewers[ch] = struct{}{}
	return ch, func() { h.leave(key, f, ch) }, true
}

func (h *hub) leave(key viewed, f *feed, ch chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers--
	delete(f.viewers, ch)
	if len(f.viewers) == 0 {
		h.end(key, f)
	}
}

// end forgets a feed; its lock is held.
func (h *hub) end(key viewed, f *feed) {
	f.stop()
	if h.feeds[key] == f {
		delete(h.feeds, key)
	}
}

// run looks again and again until the last viewer has left.
func (h *hub) run(ctx context.Context, key viewed, f *feed, r *http.Request, paths []string) {
	var last []byte
	pause := time.NewTimer(lookEvery)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.stopping:
			return
		case <-pause.C:
		}
		data, refused := h.look(ctx, r, paths)
		if ctx.Err() != nil {
			return
		}
		if refused != nil && refused.code < 500 && refused.code != http.StatusTooManyRequests {
			h.refuse(key, f)
			return
		}
		if refused == nil && !bytes.Equal(data, last) {
			last = data
			h.publish(f, data)
		}
		pause.Reset(pauseAfter(len(last)))
	}
}

// pauseAfter is the time to the next look after a frame of so many bytes.
func pauseAfter(size int) time.Duration {
	return min(max(lookEvery, lookEvery*time.Duration(size)/frameUnit), lookSeldom)
}

// publish gives each viewer the frame in place of one that it has not taken yet.
func (h *hub) publish(f *feed, data []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range f.viewers {
		select {
		case <-ch:
		default:
		}
		ch <- data // has room: nobody else sends
	}
}

// refuse sends all viewers of a feed away.
func (h *hub) refuse(key viewed, f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range f.viewers {
		close(ch)
		delete(f.viewers, ch)
	}
	h.end(key, f)
}
