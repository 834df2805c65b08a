package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"

	"github.com/seatkeeper/seatkeeper/lease"
)

// seatFlags say what is asked for and on whose behalf.
type seatFlags struct {
	count                                       int
	user, host, display, vendorDefined, project string
	instanceID                                  string
	booking                                     string
	partial                                     bool
}

func (f *seatFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&f.count, "count", "n", 1, "seats of each feature")
	cmd.Flags().StringVar(&f.user, "user", osUser(), "user to take seats for")
	cmd.Flags().StringVar(&f.host, "host", osHost(), "host to take seats for")
	cmd.Flags().StringVar(&f.display, "display", "", "display (default $DISPLAY)")
	cmd.Flags().StringVar(&f.vendorDefined, "vendor-defined", "", "the application's own share key")
	cmd.Flags().StringVar(&f.project, "project", "", "project (default $LM_PROJECT)")
	cmd.Flags().StringVar(&f.booking, "booking", "", "use the seats of this booking (seatkeeper booking create)")
}

// fill takes what no flag gave from the environment.
func (f *seatFlags) fill(a *app) {
	if f.display == "" {
		f.display, _ = a.lookupEnv("DISPLAY")
	}
	if f.project == "" {
		f.project, _ = a.lookupEnv("LM_PROJECT")
	}
}

// parseItems reads FEATURE[:VERSION] words, each perhaps a comma list.
func parseItems(words []string, count int) ([]*pb.Item, error) {
	if count < 1 || count > lease.MaxCount {
		return nil, usagef("-n %d: ask for 1 to %d seats", count, lease.MaxCount)
	}
	var items []*pb.Item
	for _, part := range splitList(strings.Join(words, ",")) {
		feature, version, _ := strings.Cut(part, ":")
		if feature == "" || len(feature) > lease.MaxNameLen {
			return nil, usagef("%q is no feature: write FEATURE or FEATURE:VERSION", part)
		}
		items = append(items, &pb.Item{Feature: feature, Version: version, Count: int32(count)})
	}
	if len(items) == 0 {
		return nil, usagef("no feature named: write FEATURE or FEATURE:VERSION")
	}
	if len(items) > lease.MaxItems {
		return nil, usagef("%d features: ask for at most %d at once", len(items), lease.MaxItems)
	}
	return items, nil
}

// waitMillis reads --wait; the API holds it in 32 bits of milliseconds.
func waitMillis(wait time.Duration) (uint32, error) {
	const longest = 24 * time.Hour
	if wait < 0 || wait > longest {
		return 0, usagef("--wait %s: use 0s to %s", wait, longest)
	}
	return uint32(wait.Milliseconds()), nil
}

// featureArgs wants at least one feature on the command line.
func featureArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("no feature named: write %s", cmd.UseLine())
	}
	return nil
}

func (a *app) checkoutCommand() *cobra.Command {
	var seats seatFlags
	var id sessionFlags
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "checkout FEATURE[:VERSION]…",
		Short: "Take seats and print the lease; renew and checkin are then yours to call",
		Long: `Takes seats of all features or of none and prints the leases. They live until their
deadline and grace unless "seatkeeper renew" is called in time (the answer says how
often); "seatkeeper run" does all of that for a command.

The session's id and secret are what renew and checkin need. With --state FILE they
are kept in FILE (mode 0600); without, they are printed. Secrets are never taken from
the command line: use --state, --secret-file or SEATKEEPER_SESSION_SECRET.`,
		Example: `  seatkeeper checkout cad:2026.0 mesh --state job.seat
  seatkeeper renew --state job.seat
  seatkeeper checkin --state job.seat`,
		Args: featureArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			seats.fill(a)
			return a.checkout(cmd.Context(), args, seats, id, wait)
		},
	}
	seats.add(cmd)
	id.add(cmd)
	cmd.Flags().StringVar(&seats.instanceID, "instance-id", "", "stable workload identity (pod UID, CI job)")
	cmd.Flags().BoolVar(&seats.partial, "partial", false, "take the features that can be had now, and say why not the others")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for free seats")
	return cmd
}

func (a *app) checkout(ctx context.Context, args []string, seats seatFlags, id sessionFlags, wait time.Duration) error {
	items, err := parseItems(args, seats.count)
	if err != nil {
		return err
	}
	if _, err := waitMillis(wait); err != nil {
		return err
	}
	if seats.partial && wait > 0 {
		return usagef("--partial takes what is there and does not wait: leave out one of --partial and --wait")
	}
	s, err := a.openSession(id)
	if err != nil {
		return err
	}
	seq, err := s.next()
	if err != nil {
		return err
	}
	c, err := a.dial(wait)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := a.checkoutWaiting(ctx, c, &pb.CheckoutRequest{
		Items: items, User: seats.user, Host: seats.host, Display: seats.display,
		VendorDefined: seats.vendorDefined, Project: seats.project, InstanceId: seats.instanceID,
		SessionId: s.ID, SessionSecret: s.Secret, Incarnation: s.Incarnation, Seq: seq,
		Booking: seats.booking, Partial: seats.partial, Tenant: a.cfg.Client.Tenant,
	}, wait, s.file != "" || !s.minted)
	if err != nil {
		return s.explain(err)
	}
	if err := s.keep(a.cfg.Client.Tenant); err != nil {
		return err
	}
	if s.file == "" && answer.Session != nil && answer.Session.Secret == "" && s.minted {
		answer.Session.Secret = s.Secret
	}
	return a.print(answer, func(t *table) { drawCheckout(t, answer, s.file) })
}

func drawCheckout(t *table, answer *pb.CheckoutResponse, file string) {
	drawLeases(t, answer.Leases)
	for _, r := range answer.Refused {
		t.text("not taken: %s (%s)", r.Message, r.Reason)
	}
	if file != "" {
		t.text("session kept in %s: renew every %s, give back with seatkeeper checkin --state %s",
			file, millis(answer.Session.HeartbeatMs), file)
		return
	}
	t.text("session %s", answer.Session.Id)
	if answer.Session.Secret != "" {
		t.text("secret  %s", answer.Session.Secret)
	}
	t.text("renew every %s: seatkeeper renew --session ID, secret in SEATKEEPER_SESSION_SECRET", millis(answer.Session.HeartbeatMs))
}

// drawLeases draws what a holder sees of leases.
func drawLeases(t *table, leases []*pb.Lease) {
	t.row("LEASE", "HANDLE", "FEATURE", "VERSION", "COUNT", "SEATS", "TOKEN", "STATE", "REMAINING")
	for _, l := range leases {
		t.row(l.Id, l.Handle, l.Feature, l.Version, l.Count, ints(l.Seats), l.FencingToken, l.State, millis(l.RemainingMs))
	}
}

// millis shows milliseconds as a span people read.
func millis[T uint32 | uint64](ms T) time.Duration {
	d := time.Duration(ms) * time.Millisecond
	if d >= 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

func (a *app) renewCommand() *cobra.Command {
	var id sessionFlags
	var idle time.Duration
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Send one heartbeat: extend every lease of a session",
		Long: `Extends every lease of a session. --idle tells how long nobody has worked with the program;
where a policy has an idle timeout, and the time is not below the vendor's floor, the seats
are taken back instead (reason timeout).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if idle < 0 {
				return usagef("--idle %s: a time since somebody worked, such as 20m", idle)
			}
			s, err := a.resumeSession(id)
			if err != nil {
				return err
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			req := &pb.RenewRequest{SessionId: s.ID, SessionSecret: s.Secret, Incarnation: s.Incarnation, Tenant: a.cfg.Client.Tenant}
			if idle > 0 {
				ms := uint64(idle.Milliseconds())
				req.IdleMs = &ms
			}
			answer, err := c.seats.Renew(cmd.Context(), req)
			if err != nil {
				return s.explain(err)
			}
			if err := a.print(answer, func(t *table) {
				drawLeases(t, answer.Leases)
				for _, l := range answer.Lost {
					t.text("lost: lease %d of %s (%s)", l.Id, l.Feature, l.Reason)
				}
			}); err != nil {
				return err
			}
			if len(answer.Lost) > 0 {
				return exitf(exitError1, "%d lease(s) of this session are gone: check out again", len(answer.Lost))
			}
			return nil
		},
	}
	id.add(cmd)
	cmd.Flags().DurationVar(&idle, "idle", 0, "how long nobody has worked with the program")
	return cmd
}

func (a *app) checkinCommand() *cobra.Command {
	var id sessionFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "checkin [LEASE…]",
		Short: "Give leases back; none named: all of them, and the session is closed",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usagef("checkin --all takes no lease ids: leave out one of the two")
			}
			ids, err := leaseIDs(args)
			if err != nil {
				return err
			}
			return a.checkin(cmd.Context(), id, ids)
		},
	}
	id.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "give back every lease and close the session (as without lease ids)")
	return cmd
}

func (a *app) checkin(ctx context.Context, id sessionFlags, ids []uint64) error {
	s, err := a.resumeSession(id)
	if err != nil {
		return err
	}
	seq, err := s.next()
	if err != nil {
		return err
	}
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := c.seats.Checkin(ctx, &pb.CheckinRequest{
		SessionId: s.ID, SessionSecret: s.Secret, Incarnation: s.Incarnation, Seq: seq,
		LeaseIds: ids, Close: len(ids) == 0, Tenant: a.cfg.Client.Tenant,
	})
	if err != nil {
		return s.explain(err)
	}
	if len(ids) == 0 {
		if err := s.forget(); err != nil {
			return err
		}
	}
	return a.print(answer, func(t *table) {
		t.row("LEASE", "FEATURE", "COUNT", "REASON")
		for _, r := range answer.Released {
			t.row(r.Id, r.Feature, r.Count, r.Reason)
		}
	})
}

// leaseIDs reads lease ids, each word perhaps a comma list.
func leaseIDs(words []string) ([]uint64, error) {
	var ids []uint64
	for _, part := range splitList(strings.Join(words, ",")) {
		id, err := strconv.ParseUint(part, 10, 64)
		if err != nil || id == 0 {
			return nil, usagef("%q is no lease id: use the number in the LEASE column", part)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (a *app) previewCommand() *cobra.Command {
	var seats seatFlags
	var session string
	cmd := &cobra.Command{
		Use:   "preview FEATURE[:VERSION]…",
		Short: "Say what a checkout would get, and why not, without taking anything",
		Long:  "Exits 0 when all of it would be granted, 75 when waiting may help, else as checkout would.",
		Args:  featureArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			seats.fill(a)
			items, err := parseItems(args, seats.count)
			if err != nil {
				return err
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.seats.Preview(cmd.Context(), &pb.PreviewRequest{
				Items: items, User: seats.user, Host: seats.host, Display: seats.display,
				VendorDefined: seats.vendorDefined, Project: seats.project, SessionId: session, Tenant: a.cfg.Client.Tenant,
				Booking: seats.booking,
			})
			if err != nil {
				return apiError(err)
			}
			if err := a.print(answer, func(t *table) { drawPreview(t, answer) }); err != nil {
				return err
			}
			return previewVerdict(answer)
		},
	}
	seats.add(cmd)
	cmd.Flags().StringVar(&session, "session", "", "session that would ask")
	return cmd
}

func drawPreview(t *table, answer *pb.PreviewResponse) {
	t.row("FEATURE", "VERSION", "COUNT", "FREE", "GRANTED", "QUEUE", "REASON", "MESSAGE")
	for _, i := range answer.Items {
		t.row(i.Feature, i.Version, i.Count, i.Free, yesNo(i.Granted), positionText(i.Position), i.Reason, i.Message)
	}
}

// previewVerdict turns the first refused item into the exit code of a checkout.
func previewVerdict(answer *pb.PreviewResponse) error {
	if answer.Granted {
		return nil
	}
	for _, i := range answer.Items {
		if !i.Granted {
			return refusal(lease.Reason(i.Reason), fmt.Sprintf("%s: %s", i.Feature, i.Message), i.Final)
		}
	}
	return exitf(exitNoSeat, "not all items together: ask for less, or later")
}

// positionText shows where one would stand in the queue.
func positionText(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("position %d", n)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) verifyCommand() *cobra.Command {
	var token uint64
	cmd := &cobra.Command{
		Use:   "verify LEASE --token N",
		Short: "Ask whether a lease with this fencing token is the live holder",
		Long:  "Exits 0 when it is, 77 when it is not (reclaimed, killed, or a successor holds the seat).",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := leaseIDs(args)
			if err != nil {
				return err
			}
			if len(ids) != 1 || token == 0 {
				return usagef("name one lease and its fencing token: seatkeeper verify LEASE --token N")
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.seats.Verify(cmd.Context(), &pb.VerifyRequest{LeaseId: ids[0], FencingToken: token, Tenant: a.cfg.Client.Tenant})
			if err != nil {
				return apiError(err)
			}
			if err := a.print(answer, func(t *table) {
				if answer.Valid {
					drawLeases(t, []*pb.Lease{answer.Lease})
				}
			}); err != nil {
				return err
			}
			if !answer.Valid {
				return exitf(exitNotAllowed, "lease %d with token %d does not hold its seat: do not let its work through", ids[0], token)
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&token, "token", 0, "fencing token the lease was granted with")
	return cmd
}
