package network

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
)

// wire is a device in memory: what is sent into it the switch reads.
type wire struct {
	out, in chan []byte
	closed  chan struct{}
}

func newWire() *wire {
	return &wire{make(chan []byte, 1024), make(chan []byte, 1024), make(chan struct{})}
}

func (w *wire) Read(p []byte) (int, error) {
	select {
	case b := <-w.out:
		return copy(p, b), nil
	case <-w.closed:
		return 0, os.ErrClosed
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.in <- append([]byte(nil), p...)
	return len(p), nil
}

func (w *wire) Close() error { close(w.closed); return nil }

// packet makes an IPv4 packet with one byte of content.
func packet(from, to netip.Addr, content byte) []byte {
	p := make([]byte, ipv4HeaderLen+1)
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	src, dst := from.As4(), to.As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	p[ipv4HeaderLen] = content
	return p
}

const patience = 10 * time.Second

var addrA, addrB = netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.2")

func twoPorts(t *testing.T) (*Switch, *wire, *wire) {
	t.Helper()
	s := NewSwitch(1)
	a, b := newWire(), newWire()
	for _, p := range []struct {
		name string
		addr netip.Addr
		dev  *wire
	}{{"a", addrA, a}, {"b", addrB, b}} {
		if err := s.AddPort(p.name, p.addr, p.dev); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, a, b
}

func arrives(t *testing.T, w *wire) byte {
	t.Helper()
	select {
	case p := <-w.in:
		return p[ipv4HeaderLen]
	case <-time.After(patience):
		t.Fatal("no packet arrived")
		return 0
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestPacketsReachTheirAddress(t *testing.T) {
	s, a, b := twoPorts(t)
	a.out <- packet(addrA, addrB, 1)
	b.out <- packet(addrB, addrA, 2)
	if got := arrives(t, b); got != 1 {
		t.Errorf("b got %d", got)
	}
	if got := arrives(t, a); got != 2 {
		t.Errorf("a got %d", got)
	}
	// It is counted when it has been written, which the reader does not wait for.
	until(t, "counting the packet from a to b", func() bool { return s.Links()[Link{"a", "b"}].Passed > 0 })
	if got := s.Links()[Link{"a", "b"}].Passed; got != 1 {
		t.Errorf("%d packets counted from a to b, want 1", got)
	}
}

func TestNothingPassesUnderAFalseOrUnknownAddress(t *testing.T) {
	s, a, _ := twoPorts(t)
	a.out <- packet(addrB, addrA, 1)
	a.out <- packet(addrA, netip.MustParseAddr("10.77.0.9"), 1)
	a.out <- []byte{0x60, 1, 2}
	until(t, "counting", func() bool { c := s.Total(); return c.Malformed == 2 && c.Unroutable == 1 })
	if s.Total().Passed != 0 {
		t.Error("something passed")
	}
}

func TestACutWorksOneWayCountsAndHeals(t *testing.T) {
	s, a, b := twoPorts(t)
	s.Apply("cut", map[Link]Rule{{"a", "b"}: {Cut: true}})
	a.out <- packet(addrA, addrB, 1)
	b.out <- packet(addrB, addrA, 2)
	arrives(t, a)
	until(t, "counting", func() bool { return s.Fault("cut").Cut == 1 })
	if c := s.Remove("cut"); c.Touched() != 1 {
		t.Errorf("the fault says it touched %d packets", c.Touched())
	}
	a.out <- packet(addrA, addrB, 3)
	if got := arrives(t, b); got != 3 {
		t.Errorf("b got %d after healing", got)
	}
}

func TestRulesOfTwoFaultsAddUp(t *testing.T) {
	s, a, b := twoPorts(t)
	const each = 20 * time.Millisecond
	link := Link{"a", "b"}
	s.Apply("one", map[Link]Rule{link: {Delay: each}})
	s.Apply("two", map[Link]Rule{link: {Delay: each}})
	began := time.Now()
	a.out <- packet(addrA, addrB, 1)
	arrives(t, b)
	if took := time.Since(began); took < 2*each {
		t.Errorf("took %v, want at least %v", took, 2*each)
	}
	if s.Fault("one").Delayed != 1 || s.Fault("two").Delayed != 1 {
		t.Error("a fault did not count what it did")
	}
}

func TestEqualDelaysKeepTheOrder(t *testing.T) {
	s, a, b := twoPorts(t)
	s.Apply("delay", map[Link]Rule{{"a", "b"}: {Delay: 5 * time.Millisecond}})
	const n = 100
	for i := range n {
		a.out <- packet(addrA, addrB, byte(i))
	}
	for i := range n {
		if got := arrives(t, b); got != byte(i) {
			t.Fatalf("packet %d is number %d", got, i)
		}
	}
}

func TestLossAndDuplicationTakeTheirShare(t *testing.T) {
	s, a, b := twoPorts(t)
	s.Apply("bad", map[Link]Rule{{"a", "b"}: {Loss: 0.5, Duplicate: 0.5}})
	const n = 1000
	go func() {
		for range n {
			a.out <- packet(addrA, addrB, 1)
		}
	}()
	var c Counts
	until(t, "judging all", func() bool {
		for len(b.in) > 0 {
			<-b.in
		}
		c = s.Links()[Link{"a", "b"}]
		return c.Lost+c.Passed-c.Duplicated == n
	})
	if c.Lost < n/3 || c.Lost > 2*n/3 || c.Duplicated < n/8 || c.Duplicated > n/2 {
		t.Errorf("%d lost and %d doubled of %d", c.Lost, c.Duplicated, n)
	}
}
