//go:build linux

package nemesis

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/network"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

func attemptOn(t *testing.T, nodes int, seed uint64) *attempt {
	t.Helper()
	c := &node.Cluster{Switch: network.NewSwitch(seed)}
	t.Cleanup(func() { _ = c.Switch.Close() })
	for i := range nodes {
		c.Nodes = append(c.Nodes, &node.Node{Name: string(rune('a' + i))})
	}
	return &attempt{World: &World{Cluster: c}, rng: rand.New(rand.NewPCG(seed, 0)), name: "test", free: c.Nodes}
}

func TestFamiliesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All() {
		if seen[f.Name] || f.Name == "" || f.For <= 0 || f.begin == nil {
			t.Errorf("family %+v", f)
		}
		seen[f.Name] = true
	}
	if _, err := Named("kill", "no-such-fault"); err == nil {
		t.Error("an unknown family was taken")
	}
}

// claimed is what is said of a fault.
func claimed(n *Nemesis, a *active) (f history.Fault) {
	n.claim(a, &f)
	return f
}

// sees is how many others each node still reaches.
func sees(r rules, nodes []*node.Node) map[string]int {
	left := map[string]int{}
	for _, x := range nodes {
		for _, y := range nodes {
			if x != y && !r[network.Link{From: x.Name, To: y.Name}].Cut {
				left[x.Name]++
			}
		}
	}
	return left
}

func ringOf(a *attempt) rules {
	r := rules{}
	ring(r, a.shuffled())
	return r
}

func TestInARingEveryNodeSeesAMajorityAndNoneSeesAll(t *testing.T) {
	for _, n := range []int{5, 7} {
		for seed := range uint64(20) {
			a := attemptOn(t, n, seed)
			for name, k := range sees(ringOf(a), a.Cluster.Nodes) {
				if k+1 < n/2+1 || k+1 == n {
					t.Errorf("%d nodes, seed %d: %s sees %d others", n, seed, name, k)
				}
			}
		}
	}
	a := attemptOn(t, 3, 1)
	if cut := len(ringOf(a)); cut != 2 {
		t.Errorf("of three nodes %d links are cut, want one pair both ways", cut)
	}
}

func TestASplitCutsBothWaysAndNothingWithin(t *testing.T) {
	a := attemptOn(t, 5, 1)
	list := a.Cluster.Nodes
	r := rules{}
	r.split(list[:2], list[2:])
	for _, x := range list {
		for _, y := range list {
			same := slices.Contains(list[:2], x) == slices.Contains(list[:2], y)
			if got := r[network.Link{From: x.Name, To: y.Name}].Cut; x != y && got == same {
				t.Errorf("%s to %s: cut %v", x.Name, y.Name, got)
			}
		}
	}
}

func TestAMajorityIsMissedAsSoonAsItIsGone(t *testing.T) {
	a := attemptOn(t, 3, 1)
	a.Cluster.Options.Nodes = 3
	n := New(a.World, 1)
	first := &active{nodes: a.free[:1], down: a.free[:1]}
	second := &active{nodes: a.free[1:2], down: a.free[1:2]}
	if f := claimed(n, first); f.NoMajority {
		t.Error("one node of three is no majority")
	}
	if f := claimed(n, second); !f.NoMajority {
		t.Error("two nodes of three are down and a majority is said to work")
	}
	n.release(first)
	if f := claimed(n, &active{}); f.NoMajority {
		t.Error("a node that works again still counts as down")
	}
}

func TestARepairTouchesOnlyWhatTheDamageLeft(t *testing.T) {
	a := attemptOn(t, 1, 3)
	path := filepath.Join(t.TempDir(), "file")
	before := []byte("abcdefghijklmnopqrstuvwxyz")
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := flipBits(a, path)
	if err != nil || slices.Equal(c.is, before) {
		t.Fatalf("%+v, %v", c, err)
	}
	ran := slices.Clone(c.is)
	at := 0
	for i := range ran {
		if ran[i] != before[i] {
			at = i
		}
	}
	ran[at] = '!' // the server wrote over it
	if err := os.WriteFile(path, ran, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.repair(true); err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(before)
	want[at] = '!'
	if got, _ := os.ReadFile(path); !slices.Equal(got, want) {
		t.Errorf("after the repair %q, want %q", got, want)
	}
}

func TestAFamilyThatNeverBitIsKnown(t *testing.T) {
	stop := func(family string, bit bool) Event {
		return Event{F: history.FStop, Fault: &history.Fault{Family: family, Bit: bit}}
	}
	n := &Nemesis{events: []Event{stop("a", false), stop("b", false), stop("b", true), stop("c", true), stop("c", false), {F: "note", Note: "x"}}}
	var names []string
	for _, f := range n.Harmless([]Family{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "never made"}}) {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"a"}) {
		t.Errorf("families without effect: %v", names)
	}
}
