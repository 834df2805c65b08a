package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// plan says how one call is tried.
type plan struct {
	// once forbids another try when the outcome of one is unknown.
	once bool
	// attempt bounds one try on one node; 0 means Config.AttemptTimeout.
	attempt time.Duration
	// pauseLimit caps the pause between laps; 0 means Config.RetryInterval.
	pauseLimit time.Duration
	// tellBusy returns an overloaded node's answer instead of asking again: the ledger
	// may have kept it as the answer to this seq.
	tellBusy bool
	// laps bounds the rounds over all nodes; 0 means until the context ends.
	laps int
	// patient goes on where certificates do not fit: a lease in use outlives their change.
	patient bool
}

// try sends one request over one connection. The options must be passed on.
type try func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error

// answer is how a call ended, beside its error.
type answer struct {
	// sent is the local clock when the answered try was sent.
	sent Instant
	// doubted is true when some try may have been applied without our hearing of it.
	// A straggler of it may still arrive, so its seq must not name another request.
	doubted bool
}

// do sends a request until it is answered with yes or no, its context ends, or the
// plan's laps are used up. The error is always an *Error.
func (c *Client) do(ctx context.Context, p plan, send try) (answer, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if p.pauseLimit == 0 {
		p.pauseLimit = c.cfg.RetryInterval
	}
	s := &search{c: c, plan: p}
	for pauses := 0; ; {
		addr, ok := c.routes.next(&s.lap, c.now())
		if !ok {
			pauses++
			if p.laps > 0 && pauses >= p.laps || !p.patient && s.tries > 0 && s.certificates == s.tries {
				return s.giveUp(nil) // asking again makes no certificate better
			}
			if err := c.pause(ctx, s.hint, pauses-1, p.pauseLimit); err != nil {
				return s.giveUp(err)
			}
			s.lap, s.hint = lap{}, 0
			s.tries, s.certificates = 0, 0
			continue
		}
		sent, v := c.attempt(ctx, addr, p.attempt, send)
		s.answer.sent = sent
		switch v.kind {
		case done:
			c.routes.answered(addr)
			return s.answer, nil
		case refused:
			return s.answer, v.err
		case busy:
			if p.tellBusy {
				return s.answer, v.err
			}
		}
		s.note(addr, v)
		if ctx.Err() != nil {
			return s.giveUp(ctx.Err())
		}
		if v.kind == doubtful && p.once {
			return s.giveUp(nil)
		}
		if v.kind == notHere {
			s.lap.target = c.follow(ctx, v.leader, &s.asked)
		}
	}
}

// search is the state of one call on its way to an answer.
type search struct {
	c      *Client
	plan   plan
	lap    lap
	answer answer
	last   *Error
	hint   time.Duration
	asked  bool // the member list was asked for during this call
	// tries of this lap, and those of them that failed for a certificate
	tries, certificates int
}

// note takes in a try that brought no answer.
func (s *search) note(addr string, v verdict) {
	if s.last == nil || v.err.Message != "" && !errors.Is(v.err.Cause, context.Canceled) {
		s.last = v.err
	}
	s.hint = max(s.hint, v.err.RetryAfter)
	s.tries++
	if v.kind == notHere && certificateTrouble.MatchString(v.err.Message) {
		s.certificates++
	}
	switch v.kind {
	case notHere:
		s.c.routes.failed(addr, v.silent, s.c.now())
	case busy:
		// The others would only send us back: wait, then ask this node again.
		s.lap = s.c.routes.fullLap()
	case doubtful:
		s.answer.doubted = true
		s.c.routes.failed(addr, v.silent, s.c.now())
	}
}

func (s *search) giveUp(cause error) (answer, error) {
	e := giveUp(s.last, s.answer.doubted, cause)
	if s.c.ctx.Err() != nil {
		e.Reason, e.Message, e.Final = Closed, "client is closed", true
	}
	return s.answer, e
}

// bound adds the default deadline where there is none, and ends with the client.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if _, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, c.cfg.CallTimeout)
	}
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// pause waits between two laps. It fails at once if the node asked for more patience
// than the caller has.
func (c *Client) pause(ctx context.Context, hint time.Duration, n int, limit time.Duration) error {
	d := fullJitter(n, limit, c.jitter())
	if hint > 0 {
		d = retryAfter(hint, n, limit, c.jitter())
		if end, ok := ctx.Deadline(); ok && time.Until(end) < hint {
			return context.DeadlineExceeded
		}
	}
	return sleep(ctx, d)
}

// forwardKey asks a node that does not lead to ask the leader.
const forwardKey = "x-seatkeeper-forward"

// attempt is one try on one node, bounded in time.
func (c *Client) attempt(ctx context.Context, addr string, timeout time.Duration, send try) (Instant, verdict) {
	if timeout == 0 {
		timeout = c.cfg.AttemptTimeout
	}
	k, err := c.links.take(addr)
	if err != nil {
		return 0, judge(err, false)
	}
	defer c.links.put(k)
	one, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if c.cfg.Token != "" {
		one = metadata.AppendToOutgoingContext(one, "authorization", "Bearer "+c.cfg.Token)
	}
	if c.cfg.Forward {
		one = metadata.AppendToOutgoingContext(one, forwardKey, "1")
	}
	var via peer.Peer // filled when the request was given to a connection
	sent := c.now()
	err = send(one, k, grpc.Peer(&via))
	v := judge(err, via.Addr != nil)
	if v.kind == refused && v.err.Reason == NotUpgraded && len(status.Convert(err).Details()) == 0 {
		v.err.Message = olderNode(one, addr, k, v.err.Message)
	}
	switch {
	case err == nil || v.kind == refused || len(status.Convert(err).Details()) > 0:
		c.links.noteHeard(k, c.now())
	case one.Err() != nil && ctx.Err() == nil:
		v.silent = true
		c.links.retireSilent(addr, k, sent)
	}
	return sent, v
}

// hopKey asks a node for its own word, without asking others.
const hopKey = "x-seatkeeper-hop"

// olderNode words the bare "unimplemented" of a node that is too old to explain itself.
func olderNode(ctx context.Context, addr string, cc grpc.ClientConnInterface, what string) string {
	version := "an older version"
	answer, err := pb.NewClusterClient(cc).Status(metadata.AppendToOutgoingContext(ctx, hopKey, "1"), &pb.StatusRequest{Stale: true})
	if err == nil && len(answer.GetNodes()) == 1 && answer.Nodes[0].GetVersion() != "" {
		version = "version " + answer.Nodes[0].Version
	}
	return addr + " runs " + version + ", which does not know this request (" + what + "): upgrade it, or use a program of its version"
}

// follow says where to go next when a node named leader: there, if it is a known
// member, perhaps after asking for the member list once; else nowhere in particular.
func (c *Client) follow(ctx context.Context, leader string, asked *bool) string {
	if leader == "" || c.cfg.Forward { // who is forwarded could not go there
		return ""
	}
	e, err := parseAddress(leader)
	if err != nil {
		return ""
	}
	if !c.routes.knows(e.hostPort) && !*asked {
		*asked = true
		c.refreshMembers(ctx)
	}
	if !c.routes.knows(e.hostPort) {
		return ""
	}
	return e.hostPort
}

// refreshMembers asks the configured addresses, in turn, who the members are.
func (c *Client) refreshMembers(ctx context.Context) {
	c.planMembers(membersRetry)
	for _, addr := range c.routes.configured {
		var answer *pb.StatusPeersResponse
		_, v := c.attempt(ctx, addr, 0, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (err error) {
			answer, err = pb.NewClusterClient(cc).StatusPeers(ctx, &pb.StatusPeersRequest{}, opts...)
			return err
		})
		if ctx.Err() != nil {
			return
		}
		if v.kind != done {
			continue
		}
		var members []string
		for _, p := range answer.Peers {
			if e, err := parseAddress(p.ApiAddress); err == nil && len(members) < maxAddresses {
				members = append(members, e.hostPort)
			}
		}
		c.routes.learn(members)
		c.links.keepOnly(c.routes.knows)
		c.planMembers(membersEvery)
		return
	}
}

// membersDue says whether the member list is due again. It is asked for beside a
// heartbeat, so that a client given one address survives the loss of that node.
func (c *Client) membersDue() bool {
	if c.cfg.Forward {
		return false // their addresses are not for us
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.membersAsked || c.now() >= c.membersNext
}

func (c *Client) planMembers(in time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.membersAsked, c.membersNext = true, c.now().Add(in)
}

// Invoke makes Client a connection for the generated clients: any call is retried and
// redirected like the SDK's own. It implements grpc.ClientConnInterface.
func (c *Client) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	p := plan{once: !repeatable(method, args), attempt: max(operatorAttempt, c.cfg.AttemptTimeout), laps: c.cfg.RetryCount}
	if r, ok := args.(*pb.CheckoutRequest); ok {
		p.attempt += time.Duration(r.WaitMs) * time.Millisecond
	}
	_, err := c.do(ctx, p, func(ctx context.Context, cc grpc.ClientConnInterface, more ...grpc.CallOption) error {
		return cc.Invoke(ctx, method, args, reply, append(opts[:len(opts):len(opts)], more...)...)
	})
	return err
}

// NewStream is refused: a stream belongs to one node and cannot be retried on another.
func (c *Client) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("seatkeeper client: streams are not supported")
}

// repeatable says whether sending the request twice is the same as sending it once.
func repeatable(method string, args any) bool {
	switch r := args.(type) {
	case *pb.CheckoutRequest:
		return r.Seq != 0 && r.SessionId != ""
	case *pb.BorrowRequest:
		return r.Seq != 0 && r.SessionId != ""
	case *pb.RotateBorrowKeyRequest:
		return false
	case *pb.LicenseApplyRequest, *pb.LicenseRemoveRequest, *pb.TransferLeadershipRequest:
		return false
	case interface{ GetTokenDigest() []byte }: // a new token: the same only if it was minted here
		return len(r.GetTokenDigest()) > 0
	}
	return method != ""
}

// reasonIs says whether err is a refusal for this reason.
func reasonIs(err error, reason lease.Reason) bool { return err != nil && ReasonOf(err) == reason }
