package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// replacePoll is how often a replacement is taken a step further. Catching up takes
	// seconds, each other step a commit.
	replacePoll = 250 * time.Millisecond
	// replaceTimeout bounds it: the largest state is sent in minutes.
	replaceTimeout = 10 * time.Minute
	// completionTimeout bounds the question for peers that a shell asks on Tab.
	completionTimeout = time.Second
)

func (a *app) addPeerCommand() *cobra.Command {
	var id, address string
	cmd := &cobra.Command{
		Use:   "add-peer ID [ADDRESS]",
		Short: "Take a server into the raft group, without a vote until it has caught up",
		Long: `Nodes that are started with an empty data directory and "join" to a member come into the
raft group by themselves. This adds one by hand: named by its id or its name, or, where
gossip's port is blocked, by its id and its Raft address. It gets a vote when it has caught
up and a voter is missing; add-peer never makes a fourth voter of three.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				id = args[0]
			}
			if len(args) > 1 {
				address = args[1]
			}
			if id == "" {
				return usagef("which server? its log says its id when it starts")
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Membership().AddPeer(cmd.Context(), &pb.AddPeerRequest{Id: id, Address: address})
			if err != nil {
				return memberError(err)
			}
			return a.print(answer, func(t *table) {
				t.text("%s is a member; seatkeeper operator autopilot state shows how far it is and whether it votes", answer.Id)
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the server's id or name")
	cmd.Flags().StringVar(&address, "address", "", "its Raft address, where gossip cannot see it")
	return cmd
}

func (a *app) replacePeerCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "replace-peer OLD NEW",
		Short: "Put a new node in the place of a dead one",
		Long: `Puts the live node NEW in the place of the dead member OLD, both named by id or name: NEW
joins without a vote, gets one when it has caught up, and then OLD is removed. A node that
was rebuilt with an empty data directory at its old address has a new id and, by its name,
may be OLD and NEW at once; OLD is then removed first, because raft takes no two servers of
one address.

After each step a majority of voters answers, else it is refused. An interrupted
replacement goes on when the command is given again.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.replacePeer(cmd.Context(), args[0], args[1], timeout)
		},
		ValidArgsFunction: a.completePeers(2),
	}
	cmd.Flags().DurationVar(&timeout, "timeout", replaceTimeout, "give up after this time; what was done stays")
	return cmd
}

func (a *app) replacePeer(ctx context.Context, old, next string, timeout time.Duration) error {
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &pb.ReplacePeerRequest{Old: old, New: next}
	poll := time.NewTicker(replacePoll)
	defer poll.Stop()
	for said := ""; ; {
		x, err := c.client.Membership().ReplacePeer(ctx, r)
		if err != nil {
			return memberError(err)
		}
		if x.Done {
			return a.print(x, func(t *table) { t.text("%s", x.Step) })
		}
		r.Old, r.New, r.Begun = x.Old, x.New, true
		if x.Step != said {
			said = x.Step
			fmt.Fprintln(a.stderr, said)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return exitf(exitError1, "not done within %v (%s): give the command again to go on", timeout, said)
		}
	}
}

// memberError says what to do where nobody leads: membership cannot be changed then.
func memberError(err error) error {
	if err = apiError(err); isUnreachable(err) {
		return exitf(exitUnreachable, "%w; members change only while a majority of voters answers: bring nodes back, or when they are lost for good, see seatkeeper operator recover", err)
	}
	return err
}

func (a *app) autopilotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "autopilot",
		Short: "The health of the members",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "state",
		Short: "Show which members are healthy, and how many may be lost",
		Long: `Shows each member as the leader sees it: what gossip says of it, when it last answered,
how far its log agrees, and since when it is as healthy as it is (at the longest since this
leader leads). The failure tolerance is how many more voters may be lost before nobody can
lead. Nothing is done by itself: a dead voter stays until it is removed or replaced.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			state, err := c.client.Membership().AutopilotState(cmd.Context(), &pb.AutopilotStateRequest{})
			if err != nil {
				return apiError(err)
			}
			return a.print(state, func(t *table) { drawAutopilot(t, state) })
		},
	})
	return cmd
}

// drawAutopilot has Consul's words, and its columns in a table.
func drawAutopilot(t *table, s *pb.AutopilotStateResponse) {
	t.text("Healthy: %v", s.Healthy)
	t.text("Failure Tolerance: %d", s.FailureTolerance)
	t.text("Leader: %s", s.Leader)
	t.text("")
	t.row("ID", "Name", "Address", "Status", "Voter", "Leader", "Last Contact", "Last Term", "Last Index", "Healthy", "Stable Since")
	for _, x := range s.Servers {
		contact := "never"
		if x.LastContactMs >= 0 {
			contact = (time.Duration(x.LastContactMs) * time.Millisecond).String()
		}
		t.row(x.Id, x.Name, x.Address, x.Status, x.Voter, x.Leader, contact, x.LastTerm, x.LastIndex, x.Healthy, x.StableSince)
	}
	for _, w := range s.Waiting {
		t.text("waiting: %s", w.Why)
	}
}

// completePeers completes up to most arguments with the ids of the members.
func (a *app) completePeers(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ids, err := a.peerIDs(cmd.Context())
		if err != nil {
			cobra.CompErrorln(err.Error())
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// peerIDs asks any node for the ids of the members, with their states as descriptions.
func (a *app) peerIDs(ctx context.Context) (ids []cobra.Completion, err error) {
	if a.configFile == "" {
		a.configFile, _ = a.lookupEnv("SEATKEEPER_CONFIG")
	}
	cfg, err := loadConfig(a.configFile, a.lookupEnv, a.flags)
	if err != nil {
		return nil, err
	}
	c, err := dialCluster(cfg.Client, completionTimeout)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answer, err := c.cluster.StatusPeers(ctx, &pb.StatusPeersRequest{})
	if err != nil {
		return nil, errors.New("no node says who the members are")
	}
	for _, p := range answer.Peers {
		ids = append(ids, cobra.CompletionWithDesc(p.Id, p.Health+" "+p.State))
	}
	return ids, nil
}
