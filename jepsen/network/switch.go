package network

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Link is one direction between two ports, by their names.
type Link struct{ From, To string }

func (l Link) String() string { return l.From + ">" + l.To }

// Rule is what a fault does to the packets of one link. The zero Rule does nothing.
type Rule struct {
	// Cut drops every packet.
	Cut bool
	// Delay and up to Jitter more are added to the way of each packet; jitter reorders.
	Delay, Jitter time.Duration
	// Loss and Duplicate are shares of the packets, 0 to 1.
	Loss, Duplicate float64
}

// Counts is what happened to packets.
type Counts struct {
	Passed, Bytes                     uint64
	Cut, Lost, Delayed, Duplicated    uint64
	Overflowed, Unroutable, Malformed uint64
}

// Touched is how many packets a fault did something to.
func (c Counts) Touched() uint64 { return c.Cut + c.Lost + c.Delayed + c.Duplicated }

func (c *counters) read() Counts {
	return Counts{Passed: c.passed.Load(), Bytes: c.bytes.Load(), Cut: c.cut.Load(), Lost: c.lost.Load(),
		Delayed: c.delayed.Load(), Duplicated: c.duplicated.Load(), Overflowed: c.overflowed.Load(),
		Unroutable: c.unroutable.Load(), Malformed: c.malformed.Load()}
}

type counters struct {
	passed, bytes, cut, lost, delayed, duplicated, overflowed, unroutable, malformed atomic.Uint64
}

// activeRule is one fault's rule on one link.
type activeRule struct {
	Rule
	fault *fault
}

type fault struct {
	rules map[Link]Rule
	counters
}

// routes is what the forwarding path reads; it is replaced, never changed.
type routes struct {
	byAddr map[netip.Addr]*port
	rules  map[Link][]activeRule
}

type port struct {
	name string
	addr netip.Addr
	dev  io.ReadWriteCloser
	mu   sync.Mutex // one writer at a time keeps packets whole on every kind of device
}

// maxWaiting bounds the packets that wait out a delay: at 1,500 bytes each they are
// 100 MB. What is beyond is dropped and counted.
const maxWaiting = 65536

// Switch forwards packets between ports. It is safe for concurrent use.
type Switch struct {
	routes atomic.Pointer[routes]
	total  counters
	links  sync.Map // Link → *counters
	later  *later
	wg     sync.WaitGroup

	rngMu sync.Mutex
	rng   *rand.Rand

	mu     sync.Mutex
	ports  []*port
	faults map[string]*fault
	closed bool
}

// NewSwitch makes a switch whose choices (loss, jitter) come from the seed.
func NewSwitch(seed uint64) *Switch {
	s := &Switch{faults: map[string]*fault{}, rng: rand.New(rand.NewPCG(seed, 0x5ea7))}
	s.routes.Store(&routes{})
	s.later = newLater(s.deliver)
	return s
}

// AddPort joins a device that carries IPv4 packets, one a read or write. The switch
// closes it. An error is returned for a name or address that is taken.
func (s *Switch) AddPort(name string, addr netip.Addr, dev io.ReadWriteCloser) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return os.ErrClosed
	}
	for _, p := range s.ports {
		if p.name == name || p.addr == addr {
			return fmt.Errorf("port %s %v: %s has that name or address already", name, addr, p.name)
		}
	}
	p := &port{name: name, addr: addr, dev: dev}
	s.ports = append(s.ports, p)
	s.publish()
	s.wg.Go(func() { s.read(p) })
	return nil
}

// Close closes all ports and waits until nothing is forwarded any more.
func (s *Switch) Close() error {
	s.mu.Lock()
	s.closed = true
	var errs []error
	for _, p := range s.ports {
		errs = append(errs, p.dev.Close())
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.later.close()
	return errors.Join(errs...)
}

// Apply puts a fault on. Rules of several faults on one link add up. A fault that is
// on already is replaced and goes on counting.
func (s *Switch) Apply(name string, rules map[Link]Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.faults[name]
	if f == nil {
		f = &fault{}
		s.faults[name] = f
	}
	f.rules = rules
	s.publish()
}

// Remove takes a fault off and returns what it did.
func (s *Switch) Remove(name string) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.faults[name]
	if f == nil {
		return Counts{}
	}
	delete(s.faults, name)
	s.publish()
	return f.read()
}

// Fault returns what a fault that is on did so far.
func (s *Switch) Fault(name string) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.faults[name]; f != nil {
		return f.read()
	}
	return Counts{}
}

// RemoveAll takes every fault off.
func (s *Switch) RemoveAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
	s.publish()
}

// Total is what happened to all packets, Links the same for each link.
func (s *Switch) Total() Counts { return s.total.read() }

// Links returns the counts of every link that carried a packet.
func (s *Switch) Links() map[Link]Counts {
	all := map[Link]Counts{}
	s.links.Range(func(k, v any) bool {
		all[k.(Link)] = v.(*counters).read()
		return true
	})
	return all
}

// publish makes what the forwarding path reads. The caller holds mu.
func (s *Switch) publish() {
	r := &routes{byAddr: map[netip.Addr]*port{}, rules: map[Link][]activeRule{}}
	for _, p := range s.ports {
		r.byAddr[p.addr] = p
	}
	for _, f := range s.faults {
		for link, rule := range f.rules {
			r.rules[link] = append(r.rules[link], activeRule{rule, f})
		}
	}
	s.routes.Store(r)
}

// read forwards what a port sends, until its device is closed.
func (s *Switch) read(p *port) {
	buf := make([]byte, 2*MTU)
	for {
		n, err := p.dev.Read(buf)
		if err != nil {
			return
		}
		s.forward(p, buf[:n])
	}
}

// forward decides about one packet. It does not keep the slice.
func (s *Switch) forward(from *port, packet []byte) {
	src, dst, ok := addresses(packet)
	if !ok || src != from.addr {
		s.total.malformed.Add(1)
		return
	}
	r := s.routes.Load()
	to := r.byAddr[dst]
	if to == nil {
		s.total.unroutable.Add(1)
		return
	}
	link := Link{from.name, to.name}
	count := s.link(link)
	rules := r.rules[link]
	if len(rules) == 0 {
		s.pass(to, packet, count)
		return
	}
	copies, delay, ok := s.judge(rules, count)
	if !ok {
		return
	}
	for range copies {
		if delay == 0 {
			s.pass(to, packet, count)
			continue
		}
		if !s.later.put(delay, parcel{to, append([]byte(nil), packet...), count}) {
			count.overflowed.Add(1)
			s.total.overflowed.Add(1)
		}
	}
}

// judge applies rules to one packet and counts what they do; ok is false when it is
// dropped.
func (s *Switch) judge(rules []activeRule, count *counters) (copies int, delay time.Duration, ok bool) {
	copies = 1
	for _, a := range rules {
		f := &a.fault.counters
		switch {
		case a.Cut:
			f.cut.Add(1)
			count.cut.Add(1)
			s.total.cut.Add(1)
			return 0, 0, false
		case a.Loss > 0 && s.random() < a.Loss:
			f.lost.Add(1)
			count.lost.Add(1)
			s.total.lost.Add(1)
			return 0, 0, false
		}
		if a.Duplicate > 0 && s.random() < a.Duplicate {
			copies++
			f.duplicated.Add(1)
			count.duplicated.Add(1)
			s.total.duplicated.Add(1)
		}
		if a.Delay > 0 || a.Jitter > 0 {
			delay += a.Delay + time.Duration(s.random()*float64(a.Jitter))
			f.delayed.Add(1)
			count.delayed.Add(1)
			s.total.delayed.Add(1)
		}
	}
	return copies, delay, true
}

func (s *Switch) random() float64 {
	s.rngMu.Lock()
	defer s.rngMu.Unlock()
	return s.rng.Float64()
}

func (s *Switch) link(l Link) *counters {
	if c, ok := s.links.Load(l); ok {
		return c.(*counters)
	}
	c, _ := s.links.LoadOrStore(l, &counters{})
	return c.(*counters)
}

// parcel is a packet on its way.
type parcel struct {
	to     *port
	packet []byte
	count  *counters
}

func (s *Switch) deliver(p parcel) { s.pass(p.to, p.packet, p.count) }

// pass hands a packet to its receiver. A receiver that takes no more loses it, as on
// a real wire.
func (s *Switch) pass(to *port, packet []byte, count *counters) {
	to.mu.Lock()
	_, err := to.dev.Write(packet)
	to.mu.Unlock()
	if err != nil {
		count.overflowed.Add(1)
		s.total.overflowed.Add(1)
		return
	}
	count.passed.Add(1)
	count.bytes.Add(uint64(len(packet)))
	s.total.passed.Add(1)
	s.total.bytes.Add(uint64(len(packet)))
}
