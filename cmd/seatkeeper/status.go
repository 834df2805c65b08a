package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// A cluster without a leader is what status is for, so it does not wait long: for an
// election, and then for any node to say what it knows by itself.
const (
	statusTimeout = 3 * time.Second
	staleTimeout  = time.Second
)

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster, its leader, its pools and the seats in use",
		Long: `Exits 0 when the cluster has a leader, 2 when it has none (what is shown then is one
node's own state and may be old), 69 when no node answers, 1 on any other error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !watch {
				return a.status(cmd.Context())
			}
			if every < 100*time.Millisecond {
				return usagef("--interval %s: use 100ms or more", every)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals...)
			defer stop()
			return a.watchStatus(ctx, every)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again until interrupted")
	cmd.Flags().DurationVar(&every, "interval", 2*time.Second, "how often --watch looks")
	return cmd
}

// watchStatus repeats status; one failure is shown and does not end it.
func (a *app) watchStatus(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if isTerminal(a.stdout) && a.cfg.Client.Format == "table" {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
		}
		if err := a.status(ctx); err != nil && ctx.Err() == nil {
			a.report(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) status(ctx context.Context) error {
	c, err := dialCluster(a.cfg.Client, statusTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	req := &pb.StatusRequest{Tenant: a.cfg.Client.Tenant}
	answer, err := leaderStatus(ctx, c, req)
	var noLeader error
	if err = apiError(err); isUnreachable(err) {
		// A node that cannot ask a leader can still say what it knows.
		ctx, cancel := context.WithTimeout(ctx, staleTimeout)
		defer cancel()
		stale, staleErr := c.cluster.Status(ctx, &pb.StatusRequest{Tenant: req.Tenant, Stale: true})
		if staleErr != nil {
			return err
		}
		answer, err = stale, nil
		noLeader = exitf(exitUsage, "no leader: this is one node's own state and may be old; seats cannot be taken until a majority of nodes is back")
	}
	if err != nil {
		return err
	}
	if err := a.print(answer, func(t *table) { drawStatus(t, answer) }); err != nil {
		return err
	}
	return noLeader
}

// leaderStatus asks the leader. One that lost leadership while it answered names none,
// and is asked again.
func leaderStatus(ctx context.Context, c *conn, req *pb.StatusRequest) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := c.cluster.Status(ctx, req)
		if err != nil || answer.Leader != "" {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, &client.Error{Reason: client.NotLeader, Message: "no node leads", Cause: ctx.Err()}
		case <-tick.C:
		}
	}
}

func drawStatus(t *table, s *pb.StatusResponse) {
	leader := s.Leader
	if leader == "" {
		leader = "none"
	}
	t.text("cluster %s  leader %s  epoch %d  term %d  log version %d  sessions %d  leases %d", s.ClusterId, leader, s.Epoch, s.Term, s.LogVersion, s.Sessions, s.Leases)
	t.text("")
	t.row("NODE", "ADDRESS", "ROLE", "APPLIED", "STATE", "VERSION", "LOG")
	for _, n := range s.Nodes {
		hash := n.StateHash
		if len(hash) > 12 {
			hash = hash[:12]
		}
		t.row(n.Id, n.Address, n.Role, n.AppliedIndex, hash, n.Version, logVersion(n.LogVersion))
	}
	t.text("")
	drawPools(t, s.Pools)
	drawReserved(t, s.Pools)
	for _, alarm := range s.Alarms {
		t.text("alarm: %s", alarm)
	}
}

func (a *app) membersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the nodes, their addresses and what gossip thinks of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := a.peers(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(answer, func(t *table) {
				t.row("NODE", "ADDRESS", "STATUS", "ROLE", "VOTER", "ID", "VERSION", "LOG")
				for _, p := range answer.Peers {
					t.row(p.Name, p.ApiAddress, p.Health, p.State, yesNo(p.Voter), p.Id, cmp.Or(p.Version, "-"), logVersion(p.LogVersion))
				}
			})
		},
	}
}

// peers asks any node: each knows the members.
func (a *app) peers(ctx context.Context) (*pb.StatusPeersResponse, error) {
	c, err := a.dial(0)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answer, err := c.cluster.StatusPeers(ctx, &pb.StatusPeersRequest{})
	return answer, apiError(err)
}

func (a *app) operatorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Change the cluster itself",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	raft := &cobra.Command{
		Use:   "raft",
		Short: "The raft group",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	raft.AddCommand(a.listPeersCommand(), a.addPeerCommand(), a.replacePeerCommand(), a.removePeerCommand(), a.transferLeaderCommand())
	cmd.AddCommand(raft, a.autopilotCommand(), a.upgradeStateCommand(), a.recoverCommand())
	return cmd
}

func (a *app) listPeersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list-peers",
		Short: "List the members of the raft group",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := a.peers(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(answer, func(t *table) { drawPeers(t, answer.Peers) })
		},
	}
}

// drawPeers keeps Consul's columns, which operators' scripts read.
func drawPeers(t *table, peers []*pb.Peer) {
	var last uint64
	for _, p := range peers {
		last = max(last, p.AppliedIndex)
	}
	t.row("Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By")
	for _, p := range peers {
		trails, commit := "-", "-"
		if p.AppliedIndex > 0 {
			commit = fmt.Sprint(p.AppliedIndex)
			trails = fmt.Sprintf("%d commits", last-p.AppliedIndex)
		}
		if p.State == "leader" {
			trails = "-"
		}
		t.row(p.Name, p.Id, p.Address, p.State, p.Voter, 3, commit, trails)
	}
}

func (a *app) removePeerCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "remove-peer ID",
		Short: "Take a node that will not come back out of the raft group (Consul's flag: --id)",
		Long: `Takes a member that is gone for good out of the raft group, named by its id or by a name
that only it has. A dead voter is never removed by itself. A member that is alive is
refused: stop it first.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeers(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				id = args[0]
			}
			if id == "" {
				return usagef("which member? seatkeeper operator raft list-peers shows their ids")
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.cluster.RemovePeer(cmd.Context(), &pb.RemovePeerRequest{Id: id})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) { t.text("%s is no member any more", answer.Id) })
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the member's id")
	_ = cmd.RegisterFlagCompletionFunc("id", a.completePeers(1))
	return cmd
}

func (a *app) transferLeaderCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "transfer-leader",
		Short: "Hand leadership to another node (Consul's flag: --id)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.cluster.TransferLeadership(cmd.Context(), &pb.TransferLeadershipRequest{To: to})
			if err != nil {
				return apiError(err)
			}
			if answer.Leader == "" {
				// Handed on, but the old leader had not yet heard of the new one.
				err := waitFor(cmd.Context(), "a new leader", callTimeout, func(ctx context.Context) error {
					now, err := c.cluster.StatusLeader(ctx, &pb.StatusLeaderRequest{})
					if err == nil && now.Id == "" {
						err = errors.New("there is none yet")
					}
					answer.Leader = now.GetId()
					return err
				})
				if err != nil {
					return err
				}
			}
			return a.print(answer, func(t *table) { t.text("leader is now %s", answer.Leader) })
		},
	}
	cmd.Flags().StringVar(&to, "id", "", "id of the node that shall lead (default: the most current follower)")
	_ = cmd.RegisterFlagCompletionFunc("id", a.completePeers(1))
	return cmd
}
