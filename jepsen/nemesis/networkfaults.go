//go:build linux

package nemesis

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/network"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

// rules puts one rule on links, both ways if asked.
type rules map[network.Link]network.Rule

func (r rules) both(a, b string, rule network.Rule) {
	r[network.Link{From: a, To: b}] = rule
	r[network.Link{From: b, To: a}] = rule
}

var cut = network.Rule{Cut: true}

// apply is a fault of rules. Cut, lost and delayed packets prove it.
func (a *attempt) apply(r rules) *active {
	return &active{
		make: func(context.Context) error { a.Cluster.Switch.Apply(a.name, r); return nil },
		end: func(context.Context) (bool, string, error) {
			c := a.Cluster.Switch.Remove(a.name)
			return c.Touched() > 0, fmt.Sprintf("%d packets cut, %d lost, %d delayed, %d duplicated on %d links",
				c.Cut, c.Lost, c.Delayed, c.Duplicated, len(r)), nil
		},
	}
}

// on says which nodes a fault is done to, and which of them cannot work meanwhile.
func (x *active) on(nodes, down []*node.Node) *active {
	x.nodes, x.down = nodes, down
	return x
}

// unserved says that nobody is promised service while the fault lasts.
func (x *active) unserved() *active {
	x.noMajority = true
	return x
}

// shuffled are all nodes in random order.
func (a *attempt) shuffled() []*node.Node {
	list := slices.Clone(a.Cluster.Nodes)
	a.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// split cuts every link between two sides.
func (r rules) split(left, right []*node.Node) {
	for _, x := range left {
		for _, y := range right {
			r.both(x.Name, y.Name, cut)
		}
	}
}

// isolate cuts one node off from the others.
func (a *attempt) isolate(x *node.Node) (*active, error) {
	if x == nil {
		return nil, errNotNow
	}
	r := rules{}
	for _, y := range a.Cluster.Nodes {
		if y != x {
			r.both(x.Name, y.Name, cut)
		}
	}
	one := []*node.Node{x}
	return a.apply(r).on(one, one), nil
}

func (a *attempt) anyFree() *node.Node {
	if len(a.free) == 0 {
		return nil
	}
	return a.free[a.rng.IntN(len(a.free))]
}

// leader is the leading node if no other fault has it; else any free one.
func (a *attempt) leader() *node.Node {
	if l := a.Probe.LeaderNode(); l != nil && slices.Contains(a.free, l) {
		return l
	}
	return a.anyFree()
}

// either is the leader in half of the cases.
func (a *attempt) either() *node.Node {
	if a.rng.IntN(2) == 0 {
		return a.leader()
	}
	return a.anyFree()
}

const netFor = 5 * time.Second

func networkFamilies() []Family {
	return []Family{
		{Name: "partition-one", For: netFor, begin: func(_ context.Context, a *attempt) (*active, error) { return a.isolate(a.anyFree()) }},
		{Name: "partition-leader", For: netFor, begin: func(_ context.Context, a *attempt) (*active, error) { return a.isolate(a.leader()) }},
		{Name: "partition-halves", For: netFor, begin: partitionHalves},
		{Name: "partition-ring", For: netFor, begin: partitionRing},
		{Name: "partition-bridge", For: netFor, begin: partitionBridge},
		{Name: "partition-one-way", For: netFor, begin: partitionOneWay},
		{Name: "client-cut", For: netFor, begin: clientCut},
		{Name: "client-delay", For: netFor, begin: clientDelay},
		{Name: "half-open", For: 2 * time.Second, begin: halfOpen},
		{Name: "delay", For: netFor, begin: func(_ context.Context, a *attempt) (*active, error) {
			rule := network.Rule{Delay: time.Duration(10+a.rng.IntN(60)) * time.Millisecond, Jitter: time.Duration(5+a.rng.IntN(40)) * time.Millisecond}
			return a.apply(a.everywhere(rule)).unserved(), nil
		}},
		{Name: "loss", For: netFor, begin: func(_ context.Context, a *attempt) (*active, error) {
			rule := network.Rule{Loss: 0.05 + 0.1*a.rng.Float64(), Duplicate: 0.05}
			return a.apply(a.everywhere(rule)).unserved(), nil
		}},
		{Name: "retry-storm", For: time.Second, begin: retryStorm},
	}
}

// everywhere puts a rule on every link between nodes. Elections take as long as they
// take then, so nobody is promised service.
func (a *attempt) everywhere(rule network.Rule) rules {
	r := rules{}
	for i, x := range a.Cluster.Nodes {
		for _, y := range a.Cluster.Nodes[i+1:] {
			r.both(x.Name, y.Name, rule)
		}
	}
	return r
}

func partitionHalves(_ context.Context, a *attempt) (*active, error) {
	list := a.shuffled()
	minority := list[:(len(list)-1)/2]
	if len(minority) == 0 {
		return nil, errNotNow
	}
	r := rules{}
	r.split(minority, list[len(minority):])
	return a.apply(r).on(minority, minority), nil
}

// partitionRing lets every node see a majority, and no two the same one. With three
// nodes that is one pair that cannot see each other.
func partitionRing(_ context.Context, a *attempt) (*active, error) {
	if len(a.Cluster.Nodes) < 3 {
		return nil, errNotNow
	}
	r := rules{}
	ring(r, a.shuffled())
	return a.apply(r).unserved(), nil
}

// ring cuts what is not near in a ring.
func ring(r rules, list []*node.Node) {
	n := len(list)
	sees := n / 2 // neighbours, itself aside, that make a majority
	for i, x := range list {
		for d := 1; d < n; d++ {
			far := min(d, n-d) > (sees+1)/2
			if n == 3 {
				far = i+d == n-1 && i == 0
			}
			if far {
				r.both(x.Name, list[(i+d)%n].Name, cut)
			}
		}
	}
}

// partitionBridge cuts two halves off from each other that both see one node.
func partitionBridge(_ context.Context, a *attempt) (*active, error) {
	list := a.shuffled()
	if len(list) < 3 {
		return nil, errNotNow
	}
	half := (len(list) - 1) / 2
	r := rules{}
	r.split(list[:half], list[half:len(list)-1])
	return a.apply(r).unserved(), nil
}

// partitionOneWay lets nothing out of one node, or nothing in.
func partitionOneWay(_ context.Context, a *attempt) (*active, error) {
	x := a.either()
	if x == nil {
		return nil, errNotNow
	}
	r, out := rules{}, a.rng.IntN(2) == 0
	for _, y := range a.Cluster.Nodes {
		switch {
		case y == x:
		case out:
			r[network.Link{From: x.Name, To: y.Name}] = cut
		default:
			r[network.Link{From: y.Name, To: x.Name}] = cut
		}
	}
	one := []*node.Node{x}
	return a.apply(r).on(one, one).unserved(), nil
}

// clientCut cuts one place of clients off from all nodes.
func clientCut(_ context.Context, a *attempt) (*active, error) {
	g := a.Clients[a.rng.IntN(len(a.Clients))]
	r := rules{}
	for _, x := range a.Cluster.Nodes {
		r.both(g.Name, x.Name, cut)
	}
	f := a.apply(r)
	f.cutOff = a.Workers.Places[g.Name]
	return f, nil
}

// clientDelay makes the answers to one place late: longer than a client waits at times.
func clientDelay(_ context.Context, a *attempt) (*active, error) {
	g := a.Clients[a.rng.IntN(len(a.Clients))]
	r := rules{}
	for _, x := range a.Cluster.Nodes {
		r[network.Link{From: x.Name, To: g.Name}] = network.Rule{Delay: time.Duration(200+a.rng.IntN(800)) * time.Millisecond}
	}
	f := a.apply(r)
	f.cutOff = a.Workers.Places[g.Name]
	return f, nil
}

// retryStorm cuts all clients off for a moment and lets them all come back at once.
func retryStorm(_ context.Context, a *attempt) (*active, error) {
	r := rules{}
	var all []string
	for _, g := range a.Clients {
		for _, x := range a.Cluster.Nodes {
			r.both(g.Name, x.Name, cut)
		}
		all = append(all, a.Workers.Places[g.Name]...)
	}
	f := a.apply(r)
	off := f.end
	f.cutOff = all
	f.end = func(ctx context.Context) (bool, string, error) {
		bit, proof, err := off(ctx)
		a.Workers.Control.Storm()
		wait(ctx, time.Second)
		return bit, proof + fmt.Sprintf("; %d clients came back at once", len(all)), err
	}
	return f, nil
}

// halfOpen makes a client whose connection the server believes in and nobody holds: cut
// both ways, the client is gone without a word, the cut heals, it comes back.
func halfOpen(_ context.Context, a *attempt) (*active, error) {
	x := a.anyFree()
	if x == nil {
		return nil, errNotNow
	}
	request := fmt.Sprintf("GET /livez HTTP/1.1\r\nHost: %s\r\n\r\n", x.API())
	r := rules{}
	r.both(a.Spare.Name, x.Name, cut)
	f := a.apply(r)
	put, off := f.make, f.end
	f.make = func(ctx context.Context) error {
		first, err := a.Spare.Namespace.DialContext(ctx, "tcp", x.API())
		if err != nil {
			return err
		}
		_, _ = first.Write([]byte(request)) // so that the server has accepted it
		wait(ctx, 200*time.Millisecond)
		err = put(ctx)
		abandon(first)
		return err
	}
	f.end = func(ctx context.Context) (bool, string, error) {
		_, proof, _ := off(ctx)
		again, err := a.Spare.Namespace.DialContext(ctx, "tcp", x.API())
		if err != nil {
			return false, proof, err
		}
		defer again.Close()
		_, _ = again.Write([]byte(request))
		wait(ctx, 200*time.Millisecond)
		open, err := established(x, a.Spare.Addr)
		return open >= 2, proof + fmt.Sprintf("; %s has %d established connections of a client that has one", x.Name, open), err
	}
	return f, nil
}
