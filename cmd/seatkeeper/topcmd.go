package main

import (
	"context"
	"fmt"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// topMost is how many leases top reads at a look, to sort them as a whole: more than a
	// person scrolls through. The search is the server's, so the rest is found by it.
	topMost = 20_000
	// topFastest is the shortest time between two looks.
	topFastest = 200 * time.Millisecond
)

// topKeys are what can be pressed.
const topKeys = `  up, down, PgUp, PgDn   move
  g, G                   to the first, to the last
  /                      search, as one types; Esc shows all again
  s, S                   sort by the next column, turn around
  K                      take the chosen lease back (asks first)
  ?                      help
  q                      quit`

func (a *app) topCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch pools and allocations on the whole screen, and take seats back",
		Long: `Shows the pools and who holds their seats, over a change of leader, too.

` + topKeys + `

NO_COLOR is respected. Needs a terminal: for scripts there are status and leases.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !isTerminal(a.stdout) || !isTerminalInput(a.stdin) {
				return exitf(exitError1, "top needs a terminal; use seatkeeper status --watch or seatkeeper leases -o json")
			}
			if every < topFastest {
				return usagef("--interval %s: use %s or more", every, topFastest)
			}
			return a.top(cmd.Context(), every)
		},
	}
	cmd.Flags().DurationVar(&every, "interval", time.Second, "how often to look")
	return cmd
}

// isTerminalInput says whether keys can be read from r.
func isTerminalInput(r any) bool {
	f, ok := r.(*os.File)
	return ok && isTerminal(f)
}

func (a *app) top(ctx context.Context, every time.Duration) error {
	c, err := dialCluster(a.cfg.Client, statusTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	m := newTopModel(ctx, &clusterTop{conn: c, tenant: a.cfg.Client.Tenant}, every)
	_, err = tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(a.stdin), tea.WithOutput(a.stdout)).Run()
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	return nil
}

// topSource is what top needs of a cluster.
type topSource interface {
	// look returns what there is now; it fails when nobody answers.
	look(ctx context.Context, search string) (topFrame, error)
	// kill takes one lease back and returns how many ended: 0 if it had ended by itself.
	kill(ctx context.Context, l *pb.LeaseEntry) (int, error)
}

// topFrame is one look at the cluster.
type topFrame struct {
	status *pb.StatusResponse
	leases []*pb.LeaseEntry
	// stale: no leader answered; it is one node's own state.
	stale bool
	// more: there are leases beyond topMost.
	more bool
}

// clusterTop reads from a real cluster.
type clusterTop struct {
	conn   *conn
	tenant string
}

func (s *clusterTop) look(ctx context.Context, search string) (topFrame, error) {
	var f topFrame
	var err error
	f.status, err = leaderStatus(ctx, s.conn, &pb.StatusRequest{Tenant: s.tenant})
	if isUnreachable(apiError(err)) {
		f.stale = true
		ctx, cancel := context.WithTimeout(ctx, staleTimeout)
		defer cancel()
		stale, staleErr := s.conn.cluster.Status(ctx, &pb.StatusRequest{Tenant: s.tenant, Stale: true})
		if staleErr == nil {
			f.status, err = stale, nil
		}
	}
	if err != nil {
		return f, apiError(err)
	}
	req := &pb.LeasesRequest{Tenant: s.tenant, Search: search, Stale: f.stale}
	for {
		page, err := s.conn.cluster.Leases(ctx, req)
		if err != nil {
			return f, apiError(err)
		}
		f.leases = append(f.leases, page.Leases...)
		req.PageToken = page.NextPageToken
		if f.more = req.PageToken != ""; !f.more || len(f.leases) >= topMost {
			return f, nil
		}
	}
}

func (s *clusterTop) kill(ctx context.Context, l *pb.LeaseEntry) (int, error) {
	answer, err := s.conn.cluster.Kill(ctx, &pb.KillRequest{Tenant: l.Tenant, LeaseIds: []uint64{l.Id}})
	return len(answer.GetKilled()), apiError(err)
}
