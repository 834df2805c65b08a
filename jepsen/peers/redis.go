package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// seats of the semaphore: enough for every client, as in the other systems.
const seats = 100_000

// takeSeat drops holders whose time is over, and adds one if there is room. It answers
// with a fencing token, or 0.
var takeSeat = redis.NewScript(`
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], ms + tonumber(ARGV[3]), ARGV[1])
return redis.call('INCR', KEYS[2])`)

// startRedis starts one server that syncs every write.
func startRedis(ctx context.Context, o options) (*peer, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is missing: apt-get install redis-server")
	}
	version, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return nil, err
	}
	free, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(free[0])
	p, err := startProcess(o.dir, "redis", binary, "--bind", "127.0.0.1", "--port", port, "--dir", o.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err != nil {
		return nil, err
	}
	list := []*process{p}
	r := &redisPeer{address: free[0]}
	if err := waitReady(ctx, list, r.ping); err != nil {
		stopAll(list)
		return nil, err
	}
	return &peer{
		version: redisVersion(string(version)),
		steps:   []step{{"cycle", false, r.open}},
		notes:   []string{"one node, appendfsync always, a semaphore in Lua: no replica, so the loss of its disk loses everything it answered"},
		close:   func() { stopAll(list) },
	}, nil
}

// redisVersion finds the number in "Redis server v=7.0.15 sha=…".
func redisVersion(line string) string {
	for f := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(f, "v="); ok {
			return v
		}
	}
	return "unknown"
}

type redisPeer struct{ address string }

func (r *redisPeer) client(n int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: r.address, PoolSize: n, MinIdleConns: n, ReadTimeout: 10 * time.Second})
}

func (r *redisPeer) ping(ctx context.Context) error {
	c := r.client(1)
	defer c.Close()
	return c.Ping(ctx).Err()
}

func (r *redisPeer) open(ctx context.Context, n int) (load.Maker, func(), error) {
	c := r.client(n)
	if err := takeSeat.Load(ctx, c).Err(); err != nil {
		c.Close()
		return nil, nil, err
	}
	return func(_ context.Context, i int) (load.Worker, error) {
		return &semaphore{c, "client-" + strconv.Itoa(i)}, nil
	}, func() { c.Close() }, nil
}

// semaphore takes a seat and gives it back.
type semaphore struct {
	c      *redis.Client
	holder string
}

func (s *semaphore) Do(ctx context.Context, m *load.Meter) error {
	began := m.Start()
	token, err := takeSeat.EvalSha(ctx, s.c, []string{"seats", "token"}, s.holder, seats, leaseTTL*1000).Int64()
	if err != nil {
		return err
	}
	if token == 0 {
		return fmt.Errorf("all %d seats are taken", seats)
	}
	m.Part("checkout", began)
	began = time.Now()
	if err := s.c.ZRem(ctx, "seats", s.holder).Err(); err != nil {
		return err
	}
	m.Part("checkin", began)
	return nil
}

func (s *semaphore) Close(context.Context) {}
