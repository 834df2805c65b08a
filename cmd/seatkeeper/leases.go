package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (a *app) leasesCommand() *cobra.Command {
	var req pb.LeasesRequest
	cmd := &cobra.Command{
		Use:   "leases",
		Short: "List who holds what",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := lease.ParseState(req.State); err != nil {
				return usagef("--%w", err)
			}
			req.Tenant = a.cfg.Client.Tenant
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := allLeases(cmd.Context(), c, &req)
			if err != nil {
				return err
			}
			return a.print(answer, func(t *table) { drawEntries(t, answer.Leases) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Feature, "feature", "", "only leases of this feature")
	f.StringVar(&req.User, "user", "", "only leases of this user")
	f.StringVar(&req.Host, "host", "", "only leases from this host")
	f.StringVar(&req.Search, "search", "", "only with this text in user, host, display, instance, feature or handle")
	f.StringVar(&req.State, "state", "", "only those in this state: active, expiring, borrowed, lingering, quarantined")
	f.StringVar(&req.SessionId, "session", "", "only leases of this session")
	f.Uint32Var(&req.Handle, "handle", 0, "only the lease with this handle")
	f.Uint64Var(&req.Id, "id", 0, "only this lease")
	f.BoolVar(&req.Stale, "stale", false, "the answering node's own state, perhaps old, also without a leader")
	return cmd
}

// allLeases turns all pages into one answer.
func allLeases(ctx context.Context, c *conn, req *pb.LeasesRequest) (*pb.LeasesResponse, error) {
	all := &pb.LeasesResponse{}
	for {
		page, err := c.cluster.Leases(ctx, req)
		if err != nil {
			return nil, apiError(err)
		}
		all.Leases = append(all.Leases, page.Leases...)
		all.RaftIndex, all.Term = page.RaftIndex, page.Term
		if page.NextPageToken == "" {
			return all, nil
		}
		req.PageToken = page.NextPageToken
	}
}

// drawEntries draws leases as an operator sees them.
func drawEntries(t *table, leases []*pb.LeaseEntry) {
	t.row("HANDLE", "FEATURE", "VERSION", "COUNT", "SEATS", "USER", "HOST", "DISPLAY", "STATE", "REMAINING", "SINCE", "LEASE", "TOKEN")
	for _, l := range leases {
		state := l.State
		if l.GetOverdraft() {
			state += " (overdraft)"
		}
		t.row(l.Handle, l.Feature, l.Version, l.Count, ints(l.Seats), l.User, l.Host, l.Display, state,
			millis(l.RemainingMs), localTime(l.Since), l.Id, l.FencingToken)
	}
}

// localTime shows an RFC 3339 time on this host's clock.
func localTime(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (a *app) killCommand() *cobra.Command {
	var req pb.KillRequest
	var ids []string
	var handles []uint
	cmd := &cobra.Command{
		Use:   "kill [HANDLE…]",
		Short: "Take seats back at once; their holders learn of it at their next heartbeat",
		Long: `Takes back every lease that matches all that is given: handles, or --lease, --user,
--host, --session, --feature. --dry-run only shows them. Until its next heartbeat a
holder may go on: resources that check the fencing token are safe meanwhile.`,
		Example: `  seatkeeper kill 14
  seatkeeper kill --user ann --host ws1 --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := readKill(&req, args, handles, ids); err != nil {
				return err
			}
			req.Tenant = a.cfg.Client.Tenant
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.cluster.Kill(cmd.Context(), &req)
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) {
				drawEntries(t, answer.Killed)
				if req.DryRun {
					t.text("%d lease(s) would be taken back", len(answer.Killed))
					return
				}
				kept := 0
				for _, l := range answer.Killed {
					if l.State == lease.Quarantined.String() {
						kept++
					}
				}
				t.text("%d lease(s) taken back", len(answer.Killed)-kept)
				if kept > 0 {
					t.text("%d borrowed: in use until their end, for their holders may be offline (seatkeeper borrow revoke --now frees them as an overdraft)", kept)
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&ids, "lease", nil, "lease ids")
	f.UintSliceVar(&handles, "handle", nil, "handles, as the arguments")
	f.StringVar(&req.User, "user", "", "leases of this user")
	f.StringVar(&req.Host, "host", "", "leases from this host")
	f.StringVar(&req.SessionId, "session", "", "leases of this session")
	f.StringVar(&req.Feature, "feature", "", "leases of this feature")
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would be taken back")
	return cmd
}

// readKill turns arguments and flags into selectors; without one nothing is killed.
func readKill(req *pb.KillRequest, args []string, handles []uint, ids []string) error {
	for _, h := range args {
		n, err := strconv.ParseUint(h, 10, 32)
		if err != nil || n == 0 {
			return usagef("%q is no handle: use the number in the HANDLE column of seatkeeper leases", h)
		}
		req.Handles = append(req.Handles, uint32(n))
	}
	for _, h := range handles {
		req.Handles = append(req.Handles, uint32(h))
	}
	var err error
	if req.LeaseIds, err = leaseIDs(ids); err != nil {
		return err
	}
	if len(req.Handles) == 0 && len(req.LeaseIds) == 0 && req.User == "" && req.Host == "" && req.SessionId == "" && req.Feature == "" {
		return usagef("kill what? name handles, or --lease, --user, --host, --session, --feature")
	}
	return nil
}
