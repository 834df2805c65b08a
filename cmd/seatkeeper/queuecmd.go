package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// waitPoll is how long one request of a waiting checkout waits at a node, so that a dead
// path is noticed; the place in the queue outlives it.
const waitPoll = 10 * time.Second

// checkoutWaiting asks until there are seats or the wait is over, by one request that
// keeps its place in the queue on whatever node answers.
func (a *app) checkoutWaiting(ctx context.Context, c *conn, req *pb.CheckoutRequest, wait time.Duration, kept bool) (*pb.CheckoutResponse, error) {
	until := time.Now().Add(wait)
	told := a.queueTeller()
	for poll := time.Duration(0); ; poll = waitPoll { // at first only to say where it stands
		left := max(0, time.Until(until))
		keep := left
		if left > 0 {
			keep = min(left+client.QueueMargin, lease.MaxWait)
		}
		req.WaitMs, req.QueueMs = uint32(min(left, poll).Milliseconds()), uint32(keep.Milliseconds())
		answer, err := c.seats.Checkout(ctx, req)
		var e *client.Error
		queued := errors.As(err, &e) && e.Reason == lease.InQueue
		if queued && ctx.Err() == nil && left > 0 {
			told(e.Position)
			continue
		}
		if ctx.Err() != nil && !kept {
			a.leaveQueue(c, req) // nobody else knows the session
		}
		return answer, err
	}
}

// queueTeller says on stderr where a request stands, whenever that changes.
func (a *app) queueTeller() func(position int) {
	last := 0
	return func(position int) {
		if position != last && position > 0 {
			fmt.Fprintf(a.stderr, "seatkeeper: no free seat; waiting at position %d\n", position)
		}
		last = position
	}
}

func (a *app) leaveQueue(c *conn, req *pb.CheckoutRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), returnTimeout)
	defer cancel()
	_, _ = c.client.Queue().QueueLeave(ctx, &pb.QueueLeaveRequest{
		SessionId: req.SessionId, SessionSecret: req.SessionSecret, Incarnation: req.Incarnation, Tenant: req.Tenant,
	})
}

func (a *app) queueCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "queue [FEATURE]",
		Short: "List who waits for seats, in the order they are served",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Queue().QueueList(cmd.Context(), &pb.QueueListRequest{
				Tenant: a.cfg.Client.Tenant, Feature: strings.Join(args, ""),
			})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) {
				t.row("POSITION", "WANTS", "USER", "HOST", "PRIORITY", "SINCE", "GIVES UP IN", "NOTE")
				for _, p := range answer.Places {
					note := ""
					if p.Aside {
						note = "waits for a limit of its own"
					}
					t.row(p.Position, wantsText(p.Items), p.User, p.Host, p.Priority, p.Since, millis(p.RemainingMs), note)
				}
			})
		},
	}
}

func wantsText(items []*pb.Item) string {
	var parts []string
	for _, it := range items {
		text := it.Feature
		if it.Version != "" {
			text += ":" + it.Version
		}
		if it.Count > 1 {
			text += fmt.Sprintf(" x%d", it.Count)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func (a *app) bookingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "booking",
		Short: "Keep seats for a job that is about to start",
		Long: `A job scheduler books seats when it decides to start a job; they are kept from everybody
else until the job's checkout, which names the booking, turns them into leases. What is
not used by the end of the booking is free again.`,
	}
	cmd.AddCommand(a.bookingCreateCommand(), a.bookingListCommand(), a.bookingCancelCommand())
	return cmd
}

func (a *app) bookingCreateCommand() *cobra.Command {
	var count int
	var span time.Duration
	var user, host, project string
	cmd := &cobra.Command{
		Use:   "create JOB FEATURE[:VERSION]… --for 10m [-n N]",
		Short: "Book seats of all features or of none, from now on",
		Long: `Exits 0 when the seats are kept, 75 when not enough are free now. The same booking again
is answered again, so a scheduler may repeat it; it is not made longer.`,
		Example: `  seatkeeper booking create job-4711 solver mesh -n 2 --for 15m --user ann
  seatkeeper run solver mesh -n 2 --booking job-4711 -- solve input.dat`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("write seatkeeper booking create JOB FEATURE --for 10m")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := parseItems(args[1:], count)
			if err != nil {
				return err
			}
			if span < lease.MinBooking || span > lease.MaxBooking {
				return usagef("--for %s: a booking lasts %s to %s", span, lease.MinBooking, lease.MaxBooking)
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Queue().BookingCreate(cmd.Context(), &pb.BookingCreateRequest{
				Id: args[0], Items: items, ForMs: uint64(span.Milliseconds()), User: user, Host: host, Project: project, Tenant: a.cfg.Client.Tenant,
			})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) { drawBookings(t, []*pb.Booking{answer.Booking}) })
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 1, "seats of each feature")
	cmd.Flags().DurationVar(&span, "for", 0, "how long from now (1s to 168h)")
	cmd.Flags().StringVar(&user, "user", "", "only this user may use it")
	cmd.Flags().StringVar(&host, "host", "", "only this host may use it")
	cmd.Flags().StringVar(&project, "project", "", "only this project may use it")
	return cmd
}

func drawBookings(t *table, list []*pb.Booking) {
	t.row("JOB", "FEATURE", "VERSION", "BOOKED", "USED", "FOR", "SINCE", "ENDS IN")
	for _, b := range list {
		var who []string
		for _, s := range []string{b.User, b.Host, b.Project} {
			if s != "" {
				who = append(who, s)
			}
		}
		for _, it := range b.Items {
			t.row(b.Id, it.Feature, it.Version, it.Count, it.Used, strings.Join(who, " "), b.Since, millis(b.RemainingMs))
		}
	}
}

func (a *app) bookingListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the bookings and how much of them is used",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Queue().BookingList(cmd.Context(), &pb.BookingListRequest{Tenant: a.cfg.Client.Tenant})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) { drawBookings(t, answer.Bookings) })
		},
	}
}

func (a *app) bookingCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel JOB",
		Short: "End a booking; what its job has leased stays leased",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Queue().BookingCancel(cmd.Context(), &pb.BookingCancelRequest{Id: args[0], Tenant: a.cfg.Client.Tenant})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) { drawBookings(t, []*pb.Booking{answer.Booking}) })
		},
	}
}
