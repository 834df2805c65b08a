package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// The demo's own feature lives shortly, so that nobody waits for minutes to see a
// crashed client's seat come back.
const (
	demoLifespan = 3 * time.Second
	demoGrace    = 2 * time.Second
	// demoSlack: a tick until the leader looks, and an election if it falls just then.
	demoSlack = 2 * time.Second
	// demoStep bounds every other wait of the story.
	demoStep = 20 * time.Second
)

var demoFeatures = append(slices.Clone(devFeatures),
	sampleFeature{name: "render", version: "1.0", count: 1, profile: fmt.Sprintf("lifespan %s grace %s", demoLifespan, demoGrace)})

func (a *app) demoCommand() *cobra.Command {
	var port int
	cmd := &cobra.Command{
		Use:    "demo",
		Short:  "Run the story: a cluster, two clients, a dead leader, a crashed client",
		Hidden: true, // make demo is its door
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals...)
			defer stop()
			if port == 0 {
				var err error
				if port, err = freePorts(3); err != nil {
					return err
				}
			}
			return a.demo(ctx, port)
		},
	}
	cmd.Flags().IntVar(&port, "port", 0, "API port of the first node (default: any free ones)")
	return cmd
}

// demo is one telling of the story. Each step checks what it says.
type demo struct {
	out     io.Writer
	step    int
	began   time.Time
	cluster *devCluster
	conn    *conn
	clients []*demoClient
	// crashed is the client process that is killed; its input keeps its command waiting.
	crashed      *exec.Cmd
	crashedInput io.WriteCloser
}

// demoClient is one user with a session of the SDK.
type demoClient struct {
	user    string
	client  *client.Client
	session *client.Session
	leases  []*client.Lease
}

func (a *app) demo(ctx context.Context, port int) (err error) {
	s := &demo{out: a.stdout, began: time.Now()}
	defer func() {
		err = errors.Join(err, s.cleanUp())
		if err == nil {
			s.say("nothing is left behind: three processes ended, %s removed (%s in all)", s.cluster.dir, since(s.began))
		}
	}()
	for _, chapter := range []func(context.Context) error{
		func(ctx context.Context) error { return s.startCluster(ctx, port) },
		s.takeSeats, s.killLeader, s.fillPool, s.rejoin, s.crashClient, s.returnAll,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// say narrates one step in one line.
func (s *demo) say(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "%2d. %s\n", s.step, fmt.Sprintf(format, args...))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }

func (s *demo) startCluster(ctx context.Context, port int) error {
	d, err := startDev(ctx, 3, port, "", demoFeatures, "--port")
	s.cluster = d
	if err != nil {
		return err
	}
	if s.conn, err = dialCluster(Client{Addr: d.address()}, callTimeout); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	var processes []string
	for _, n := range d.nodes {
		processes = append(processes, fmt.Sprintf("%s (pid %d, %s)", n.Name, n.pid(), n.API))
	}
	s.say("three servers run: %s; %s leads; their disks are in %s", strings.Join(processes, ", "), d.node(st.Leader).Name, d.dir)
	var pools []string
	for _, p := range st.Pools {
		pools = append(pools, fmt.Sprintf("%s %d", p.Feature, p.Total))
	}
	if len(st.Pools) != len(demoFeatures) {
		return exitf(exitError1, "the licence gave the pools %v, want %d of them", pools, len(demoFeatures))
	}
	s.say("a licence signed by %s is installed: %s seats", d.vendor.Name, strings.Join(pools, ", "))
	return nil
}

func (s *demo) status(ctx context.Context) (*pb.StatusResponse, error) {
	st, err := s.conn.cluster.Status(ctx, &pb.StatusRequest{})
	return st, apiError(err)
}

func (s *demo) open(ctx context.Context, user string, items ...client.Item) (*demoClient, error) {
	cl, err := newClient(Client{Addr: s.cluster.address()}, callTimeout)
	if err != nil {
		return nil, err
	}
	c := &demoClient{user: user, client: cl}
	s.clients = append(s.clients, c)
	if c.session, err = cl.OpenSession(ctx, client.SessionConfig{Principal: lease.Principal{User: user, Host: user + "-ws"}}); err != nil {
		return nil, apiError(err)
	}
	c.leases, err = c.session.Checkout(ctx, items...)
	return c, apiError(err)
}

func (s *demo) takeSeats(ctx context.Context) error {
	ann, err := s.open(ctx, "ann", client.Item{Feature: "cad", Count: 2}, client.Item{Feature: "solver", Count: 1})
	if err != nil {
		return err
	}
	bob, err := s.open(ctx, "bob", client.Item{Feature: "cad", Count: 3})
	if err != nil {
		return err
	}
	if err := s.checkInUse(ctx); err != nil {
		return err
	}
	s.say("ann holds %s; bob holds %s", ann.holds(), bob.holds())
	return nil
}

// holds says what a client has, for people.
func (c *demoClient) holds() string {
	var parts []string
	for _, l := range c.leases {
		parts = append(parts, fmt.Sprintf("%s seats %s (fencing token %d)", l.Feature(), ints(l.Seats()), l.Token()))
	}
	return strings.Join(parts, " and ")
}

// checkInUse compares what the cluster charges with what the clients believe, and
// looks for a seat that two of them hold.
func (s *demo) checkInUse(ctx context.Context) error {
	believed, holder := map[string]int{}, map[string]string{}
	for _, c := range s.clients {
		for _, l := range c.leases {
			if !l.Valid() {
				return exitf(exitError1, "%s no longer holds %s: %s", c.user, l.Feature(), l.Reason())
			}
			believed[l.Feature()] += l.Count()
			for _, seat := range l.Seats() {
				name := fmt.Sprintf("%s seat %d", l.Feature(), seat)
				if other, twice := holder[name]; twice {
					return exitf(exitError1, "%s is held by %s and by %s", name, other, c.user)
				}
				holder[name] = c.user
			}
		}
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	for _, p := range st.Pools {
		if int(p.InUse) != believed[p.Feature] {
			return exitf(exitError1, "%s: the cluster charges %d seats, clients hold %d", p.Feature, p.InUse, believed[p.Feature])
		}
	}
	return nil
}

func (s *demo) killLeader(ctx context.Context) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	old := s.cluster.node(st.Leader)
	refs := s.refs()
	killed := time.Now()
	old.kill()
	s.say("SIGKILL for the leader, %s (pid %d)", old.Name, old.pid())
	err = waitFor(ctx, "a new leader", demoStep, func(ctx context.Context) error {
		if st, err = s.cluster.statusNow(ctx, s.conn); err != nil {
			return err
		}
		if st.Leader == "" || s.cluster.node(st.Leader) == old {
			return errors.New("there is none yet")
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.say("%s leads after %s", s.cluster.node(st.Leader).Name, since(killed))
	for _, c := range s.clients {
		if err := c.session.Renew(ctx); err != nil {
			return apiError(err)
		}
	}
	if err := s.checkInUse(ctx); err != nil {
		return err
	}
	if now := s.refs(); !slices.Equal(refs, now) {
		return exitf(exitError1, "the leases changed: before %v, now %v", refs, now)
	}
	s.say("nothing was lost: ann and bob renewed and hold the same leases, seats and tokens; seats in use equal what they hold")
	return nil
}

// refs are the ids and tokens of all leases, as their sessions hold them now.
func (s *demo) refs() []lease.Ref {
	var refs []lease.Ref
	for _, c := range s.clients {
		for _, l := range c.session.Leases() {
			refs = append(refs, l.Ref())
		}
	}
	return refs
}

// fillPool shows that the new leader issues what is left, and not one seat more.
func (s *demo) fillPool(ctx context.Context) error {
	const total, held = 10, 5
	greedy, err := s.open(ctx, "eve", client.Item{Feature: "cad", Count: total - held + 1})
	if reasonOf(err) != string(lease.NoSeats) {
		return exitf(exitError1, "eve asked for one cad seat more than are free, and got: %v", err)
	}
	if greedy.leases, err = greedy.session.Checkout(ctx, client.Item{Feature: "cad", Count: total - held}); err != nil {
		return apiError(err)
	}
	if err := s.checkInUse(ctx); err != nil {
		return err
	}
	s.say("nothing is issued twice: eve is refused %d cad seats (no_seats), asks for %d and holds %s", total-held+1, total-held, greedy.holds())
	return nil
}

// rejoin starts the dead server again and waits until all three hold the same state.
func (s *demo) rejoin(ctx context.Context) error {
	back := s.cluster.died()
	if err := back.start(); err != nil {
		return err
	}
	var hash string
	err := waitFor(ctx, "the same state on all nodes", demoStep, func(ctx context.Context) error {
		st, err := s.cluster.statusNow(ctx, s.conn)
		if err != nil {
			return err
		}
		hash, err = sameState(st, len(s.cluster.nodes))
		return err
	})
	if err != nil {
		return err
	}
	s.say("%s is started again (pid %d) and catches up: all three have the state hash %.12s", back.Name, back.pid(), hash)
	return nil
}

// sameState returns the state hash that all nodes have at one index.
func sameState(st *pb.StatusResponse, nodes int) (string, error) {
	if len(st.Nodes) != nodes {
		return "", fmt.Errorf("%d of %d nodes are known", len(st.Nodes), nodes)
	}
	first := st.Nodes[0]
	for _, n := range st.Nodes {
		if n.StateHash == "" || n.AppliedIndex != first.AppliedIndex {
			return "", fmt.Errorf("%s is at index %d, %s at %d", first.Id, first.AppliedIndex, n.Id, n.AppliedIndex)
		}
		if n.StateHash != first.StateHash {
			return "", fmt.Errorf("at index %d %s has %s, %s has %s", n.AppliedIndex, first.Id, first.StateHash, n.Id, n.StateHash)
		}
	}
	return first.StateHash, nil
}

// crashClient kills a client process and waits until its seat is free again.
func (s *demo) crashClient(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	// cat waits for our end of the pipe, so that it ends when we close it.
	s.crashed = exec.Command(binary, "run", "render", "--user", "dan", "--host", "dan-ws", "--", "cat")
	s.crashed.Env = append(withoutSettings(os.Environ()), "SEATKEEPER_ADDR="+s.cluster.address())
	if s.crashedInput, err = s.crashed.StdinPipe(); err != nil {
		return err
	}
	if err := s.crashed.Start(); err != nil {
		return err
	}
	if err := s.waitRender(ctx, 1, demoStep); err != nil {
		return err
	}
	s.say("dan's program takes the only render seat (heartbeat lifespan %s, then %s grace) and is killed with SIGKILL (pid %d)", demoLifespan, demoGrace, s.crashed.Process.Pid)
	if err := s.crashed.Process.Kill(); err != nil {
		return err
	}
	_ = s.crashed.Wait()
	killed := time.Now()
	bound := demoLifespan + demoGrace + demoSlack
	if err := s.waitRender(ctx, 0, demoStep); err != nil {
		return err
	}
	if time.Since(killed) > bound {
		s.say("dan's seat is free again after %s (bound: %s where processors are free; this machine is very busy)", since(killed), bound)
		return nil
	}
	s.say("dan's seat is free again after %s (bound: %s)", since(killed), bound)
	return nil
}

// waitRender waits until so many render seats are in use.
func (s *demo) waitRender(ctx context.Context, want int32, bound time.Duration) error {
	return waitFor(ctx, fmt.Sprintf("%d render seats in use", want), bound, func(ctx context.Context) error {
		st, err := s.cluster.statusNow(ctx, s.conn)
		if err != nil {
			return err
		}
		for _, p := range st.Pools {
			if p.Feature == "render" && p.InUse != want {
				return fmt.Errorf("%d are", p.InUse)
			}
		}
		return nil
	})
}

func (s *demo) returnAll(ctx context.Context) error {
	for _, c := range s.clients {
		if err := c.client.Close(ctx); err != nil {
			return apiError(err)
		}
	}
	s.clients = nil
	if err := s.checkInUse(ctx); err != nil {
		return err
	}
	s.say("everybody gives back: no seat is in use")
	return nil
}

// cleanUp ends what the story started, whatever became of it.
func (s *demo) cleanUp() error {
	// The servers go away: what is still held goes with them.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range s.clients {
		_ = c.client.Close(ended)
	}
	if s.crashed != nil && s.crashed.Process != nil {
		_ = s.crashed.Process.Kill()
		_ = s.crashed.Wait()
		_ = s.crashedInput.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.cluster == nil {
		return nil
	}
	err := s.cluster.stop()
	for _, n := range s.cluster.nodes {
		if n.exited != nil && !isClosed(n.exited) {
			err = errors.Join(err, fmt.Errorf("%s (pid %d) still runs", n.Name, n.pid()))
		}
	}
	if _, statErr := os.Stat(s.cluster.dir); statErr == nil {
		err = errors.Join(err, fmt.Errorf("%s is still there", s.cluster.dir))
	}
	return err
}
