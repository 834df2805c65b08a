//go:build linux

package nemesis

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

// probeTimeout bounds one look: a node that does not answer by then does not answer.
const probeTimeout = 700 * time.Millisecond

// Probe looks at the nodes from a place that no fault touches.
type Probe struct {
	cluster *node.Cluster
	http    *http.Client

	mu      sync.Mutex
	leader  string
	changes []LeaderChange
}

// LeaderChange is another leader than before, as the probe saw it.
type LeaderChange struct {
	At     int64  `edn:"at"`
	Leader string `edn:"leader"`
	Term   uint64 `edn:"term"`
}

// NewProbe looks from a group of clients.
func NewProbe(c *node.Cluster, from *node.Group) *Probe {
	return &Probe{cluster: c, http: &http.Client{Timeout: probeTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from.Namespace.DialContext(ctx, network, address)
		}, DisableKeepAlives: true,
	}}}
}

// Get reads a page of a node.
func (p *Probe) Get(n *node.Node, path string) (int, []byte, error) {
	resp, err := p.http.Get("http://" + n.API() + path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, data, err
}

// Answers says whether the node's API answers at all.
func (p *Probe) Answers(n *node.Node) bool {
	code, _, err := p.Get(n, "/livez")
	return err == nil && code == http.StatusOK
}

// Ready says whether the node knows a leader and has applied something.
func (p *Probe) Ready(n *node.Node) bool {
	code, _, err := p.Get(n, "/readyz")
	return err == nil && code == http.StatusOK
}

// Leader asks every node and believes the highest term.
func (p *Probe) Leader() (id string, term uint64) {
	type answer struct {
		ID   string `json:"id"`
		Term uint64 `json:"term,string"`
	}
	found := make(chan answer, len(p.cluster.Nodes))
	for _, n := range p.cluster.Nodes {
		go func() {
			var a answer
			if code, data, err := p.Get(n, "/v1/status/leader"); err == nil && code == http.StatusOK {
				_ = json.Unmarshal(data, &a)
			}
			found <- a
		}()
	}
	for range p.cluster.Nodes {
		if a := <-found; a.ID != "" && a.Term > term {
			id, term = a.ID, a.Term
		}
	}
	return id, term
}

// LeaderNode is the node that leads, or nil.
func (p *Probe) LeaderNode() *node.Node {
	id, _ := p.Leader()
	if id == "" {
		return nil
	}
	return p.cluster.Node(id)
}

// watchEvery is how often the probe looks who leads.
const watchEvery = 250 * time.Millisecond

// Watch notes changes of leader until ctx ends.
func (p *Probe) Watch(ctx context.Context, now func() int64) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	var lastTerm uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		id, term := p.Leader()
		if id == "" || term <= lastTerm {
			continue
		}
		lastTerm = term
		p.mu.Lock()
		p.leader = id
		p.changes = append(p.changes, LeaderChange{now(), id, term})
		p.mu.Unlock()
	}
}

// Changes are the changes of leader so far.
func (p *Probe) Changes() []LeaderChange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]LeaderChange(nil), p.changes...)
}

// ServerTime is the wall clock that a node shows, in whole seconds.
func (p *Probe) ServerTime(n *node.Node) (int64, error) {
	var body struct {
		ServerTime int64 `json:"server_time_utc"`
	}
	_, data, err := p.Get(n, "/v1/sys/health")
	if err == nil {
		err = json.Unmarshal(data, &body)
	}
	return body.ServerTime, err
}

// ServerID is the id (NAME-INCARNATION) that a node gives itself, or "".
func (p *Probe) ServerID(n *node.Node) string {
	var body struct {
		Node string `json:"node"`
	}
	_, data, err := p.Get(n, "/v1/sys/health")
	if err != nil || json.Unmarshal(data, &body) != nil {
		return ""
	}
	return body.Node
}

// Role is what the leader says of the node of that name: leader, follower, learner,
// unreachable or "" when it does not know it.
func (p *Probe) Role(name string) string {
	asked := p.LeaderNode()
	if asked == nil {
		return ""
	}
	var body struct {
		Nodes []struct{ ID, Role string } `json:"nodes"`
	}
	_, data, err := p.Get(asked, "/v1/status?stale=true")
	if err != nil || json.Unmarshal(data, &body) != nil {
		return ""
	}
	for _, n := range body.Nodes {
		if strings.HasPrefix(n.ID, name+"-") {
			return n.Role
		}
	}
	return ""
}

// Applied is how far the node says it has applied the log; 0 if it does not say.
func (p *Probe) Applied(n *node.Node) uint64 {
	var body struct {
		Nodes []struct {
			ID      string `json:"id"`
			Applied uint64 `json:"applied_index,string"`
		} `json:"nodes"`
	}
	_, data, err := p.Get(n, "/v1/status?stale=true")
	if err != nil || json.Unmarshal(data, &body) != nil {
		return 0
	}
	for _, x := range body.Nodes {
		if strings.HasPrefix(x.ID, n.Name+"-") {
			return x.Applied
		}
	}
	return 0
}

// WaitHealthy waits until every node of want is ready and one leads.
func (p *Probe) WaitHealthy(ctx context.Context, within time.Duration, want ...*node.Node) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		var sick []string
		if id, _ := p.Leader(); id == "" {
			sick = append(sick, "no leader")
		}
		for _, n := range want {
			if !p.Ready(n) {
				sick = append(sick, n.Name+" is not ready")
			}
		}
		if len(sick) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not healthy after %v: %s", time.Since(began).Round(time.Second), strings.Join(sick, ", "))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
