package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

const (
	members = 3
	// clientsPerConn is as many as bench uses for Seatkeeper.
	clientsPerConn = 32
	// leaseTTL in seconds is the lifespan of Seatkeeper's default profile.
	leaseTTL = 120
	// streamWindow is as many messages on their way as bench uses on a stream.
	streamWindow = 64
)

// etcdMember is one server process.
func etcdMember(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("etcd-member", flag.ContinueOnError)
	name := flags.String("name", "", "")
	dir := flags.String("dir", "", "")
	client := flags.String("client", "", "")
	peer := flags.String("peer", "", "")
	cluster := flags.String("cluster", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg := embed.NewConfig() // as it comes: fsync on
	cfg.Name, cfg.Dir, cfg.InitialCluster, cfg.LogLevel = *name, *dir, *cluster, "error"
	clientURL, peerURL := url.URL{Scheme: "http", Host: *client}, url.URL{Scheme: "http", Host: *peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{clientURL}, []url.URL{clientURL}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peerURL}, []url.URL{peerURL}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return nil
	}
}

// startEtcd starts three members.
func startEtcd(ctx context.Context, o options) (*peer, error) {
	addresses, err := freeAddresses(2 * members)
	if err != nil {
		return nil, err
	}
	clients, peers := addresses[:members], addresses[members:]
	var initial []string
	for i, p := range peers {
		initial = append(initial, fmt.Sprintf("m%d=http://%s", i+1, p))
	}
	var list []*process
	for i := range members {
		name := fmt.Sprintf("m%d", i+1)
		p, err := self(o.dir, name, "etcd-member", "-name", name, "-dir", filepath.Join(o.dir, name),
			"-client", clients[i], "-peer", peers[i], "-cluster", strings.Join(initial, ","))
		if err != nil {
			stopAll(list)
			return nil, err
		}
		list = append(list, p)
	}
	e := &etcd{endpoints: clients}
	if err := waitReady(ctx, list, e.find); err != nil {
		stopAll(list)
		return nil, err
	}
	return &peer{
		version: moduleVersion("go.etcd.io/etcd/server/v3"),
		steps: []step{
			{"cycle, lease per checkout", false, e.workers(func(c *etcdClient) load.Worker { return &leaseEach{c} })},
			{"cycle, lease per session", false, e.workers(func(c *etcdClient) load.Worker { return &leaseOnce{etcdClient: c} })},
			{"heartbeat unary", true, e.workers(func(c *etcdClient) load.Worker { return &keepAlive{etcdClient: c} })},
			{"heartbeat stream", true, e.workers(func(c *etcdClient) load.Worker { return &keepAliveStream{etcdClient: c} })},
		},
		notes: []string{
			fmt.Sprintf("etcd %s by its embed package, bbolt %s, grpc %s; %d members with default settings; clients talk to the leader",
				moduleVersion("go.etcd.io/etcd/server/v3"), moduleVersion("go.etcd.io/bbolt"), moduleVersion("google.golang.org/grpc"), members),
			"every client has a seat key of its own, so no two ever want the same: that favours etcd, where a pool would need a search",
			"a KeepAlive is answered by the leader from memory; nothing of it is replicated or on disk",
		},
		close: func() { stopAll(list) },
	}, nil
}

// etcd is the way to the cluster.
type etcd struct {
	endpoints []string
	leader    string
}

func dialEtcd(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second,
		Logger: zap.NewNop()}) // while members start, every failed try would be logged
}

// find finds the leader: clients that ask another member pay for the detour.
func (e *etcd) find(ctx context.Context) error {
	for _, endpoint := range e.endpoints {
		c, err := dialEtcd(endpoint)
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		s, err := c.Status(ctx, endpoint)
		if err != nil {
			return err
		}
		if s.Leader == 0 {
			return errors.New("no leader yet")
		}
		if s.Leader == s.Header.MemberId {
			e.leader = endpoint
		}
	}
	if e.leader == "" {
		return errors.New("no member leads")
	}
	return nil
}

// etcdClient is one client with the connection it shares.
type etcdClient struct {
	*clientv3.Client
	key string
}

func (e *etcd) workers(make func(*etcdClient) load.Worker) func(context.Context, int) (load.Maker, func(), error) {
	return func(_ context.Context, n int) (load.Maker, func(), error) {
		var conns []*clientv3.Client
		end := func() {
			for _, c := range conns {
				_ = c.Close()
			}
		}
		for range (n + clientsPerConn - 1) / clientsPerConn {
			c, err := dialEtcd(e.leader)
			if err != nil {
				end()
				return nil, nil, err
			}
			conns = append(conns, c)
		}
		return func(ctx context.Context, i int) (load.Worker, error) {
			w := make(&etcdClient{conns[i%len(conns)], fmt.Sprintf("seat/%d", i)})
			if o, ok := w.(interface{ open(context.Context) error }); ok {
				return w, o.open(ctx)
			}
			return w, nil
		}, end, nil
	}
}

func (c *etcdClient) Close(context.Context) {}

// take puts the seat's key if nobody has it.
func (c *etcdClient) take(ctx context.Context, id clientv3.LeaseID) error {
	r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(c.key), "=", 0)).
		Then(clientv3.OpPut(c.key, "holder", clientv3.WithLease(id))).Commit()
	if err == nil && !r.Succeeded {
		err = errors.New("the seat is taken")
	}
	return err
}

// leaseEach makes a lease for each checkout and revokes it at check-in.
type leaseEach struct{ *etcdClient }

func (w *leaseEach) Do(ctx context.Context, m *load.Meter) error {
	began := m.Start()
	l, err := w.Grant(ctx, leaseTTL)
	if err != nil {
		return err
	}
	if err := w.take(ctx, l.ID); err != nil {
		return err
	}
	m.Part("checkout", began)
	began = time.Now()
	if _, err := w.Revoke(ctx, l.ID); err != nil {
		return err
	}
	m.Part("checkin", began)
	return nil
}

// leaseOnce has one lease for its session; each seat is a transaction.
type leaseOnce struct {
	*etcdClient
	lease clientv3.LeaseID
}

func (w *leaseOnce) open(ctx context.Context) error {
	l, err := w.Grant(ctx, leaseTTL)
	if err == nil {
		w.lease = l.ID
	}
	return err
}

func (w *leaseOnce) Do(ctx context.Context, m *load.Meter) error {
	began := m.Start()
	if err := w.take(ctx, w.lease); err != nil {
		return err
	}
	m.Part("checkout", began)
	began = time.Now()
	r, err := w.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(w.key), "=", w.lease)).Then(clientv3.OpDelete(w.key)).Commit()
	if err == nil && !r.Succeeded {
		err = errors.New("the seat is another's")
	}
	if err == nil {
		m.Part("checkin", began)
	}
	return err
}

func (w *leaseOnce) Close(ctx context.Context) { _, _ = w.Revoke(ctx, w.lease) }

// keepAlive renews its lease by one call each.
type keepAlive struct {
	*etcdClient
	lease clientv3.LeaseID
}

func (w *keepAlive) open(ctx context.Context) error {
	l, err := w.Grant(ctx, leaseTTL)
	if err == nil {
		w.lease = l.ID
	}
	return err
}

func (w *keepAlive) Do(ctx context.Context, _ *load.Meter) error {
	_, err := w.KeepAliveOnce(ctx, w.lease)
	return err
}

func (w *keepAlive) Close(ctx context.Context) { _, _ = w.Revoke(ctx, w.lease) }

// keepAliveStream renews its lease on a stream with many messages on their way.
// Answers come in order.
type keepAliveStream struct {
	*etcdClient
	lease  clientv3.LeaseID
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
	sent   []time.Time
}

func (w *keepAliveStream) open(ctx context.Context) error {
	l, err := w.Grant(ctx, leaseTTL)
	if err != nil {
		return err
	}
	w.lease = l.ID
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.stream, err = pb.NewLeaseClient(w.ActiveConnection()).LeaseKeepAlive(ctx)
	return err
}

func (w *keepAliveStream) Do(ctx context.Context, m *load.Meter) error {
	defer context.AfterFunc(ctx, w.cancel)()
	for len(w.sent) < streamWindow {
		if err := w.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(w.lease)}); err != nil {
			return load.Fatal(err)
		}
		w.sent = append(w.sent, time.Now())
	}
	if _, err := w.stream.Recv(); err != nil {
		return load.Fatal(err)
	}
	m.Sent(w.sent[0])
	w.sent = w.sent[1:]
	return nil
}

func (w *keepAliveStream) Close(ctx context.Context) {
	w.cancel()
	_, _ = w.Revoke(ctx, w.lease)
}
