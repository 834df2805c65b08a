package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// returnTimeout bounds giving seats back when CMD has ended: somebody waits for the
// prompt. Seats that could not be returned come back by expiry.
const returnTimeout = 5 * time.Second

// runOptions are the flags of run.
type runOptions struct {
	seats  seatFlags
	wait   time.Duration
	onLost string
	state  string
	folder string // of borrowed seats
	idle   string // file whose time of change tells when somebody worked last
	end    func() // ends CMD
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run FEATURE[:VERSION][,…] [-n N] [--wait 5m] -- CMD…",
		Short: "Take seats, run CMD, keep them while it runs, give them back",
		Long: `Takes seats of all features or of none, runs CMD and keeps the seats with heartbeats
until CMD ends. CMD gets our input, outputs and signals; its exit code is ours (128+n if
signal n ended it, 127 if it was not found, 126 if it could not be executed; 75 if there
was no free seat). CMD sees SEATKEEPER_SESSION_ID, SEATKEEPER_LEASE_ID and
SEATKEEPER_FENCING_TOKEN (comma lists, in the order of the features).

If the seats are lost while CMD runs (the cluster was out of reach beyond grace, or an
operator took them back) one line on stderr says so, and CMD goes on; with
--on-lost=term it is sent SIGTERM.

With --idle-file FILE the age of that file is told as the time that nobody has worked with
CMD; where a policy has an idle timeout, the seats are then taken back, as said above.

If the cluster cannot be reached, or has no free seat, and seats of all the features were
borrowed on this machine (seatkeeper borrow), CMD runs on those; one line on stderr says
so, and SEATKEEPER_BORROWED_UNTIL tells CMD. They are renewed if the cluster comes back.`,
		Example: `  seatkeeper run cad -- /opt/cad/bin/cad model.prt
  seatkeeper run solver:2026.0,mesh -n 2 --wait 10m -- solve input.dat`,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 0 || dash == len(args) {
				return usagef("no command: write seatkeeper run FEATURE -- CMD…")
			}
			if dash == 0 {
				return usagef("no feature named: write seatkeeper run FEATURE -- CMD…")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.seats.fill(a)
			dash := cmd.ArgsLenAtDash()
			return a.runWithSeats(cmd.Context(), o, args[:dash], args[dash:])
		},
	}
	o.seats.add(cmd)
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "how long to wait for free seats")
	cmd.Flags().StringVar(&o.onLost, "on-lost", "warn", "when the seats are lost while CMD runs: warn, or term (send it SIGTERM)")
	cmd.Flags().StringVar(&o.idle, "idle-file", "", "file that CMD writes whenever somebody works with it: its age is told as idle time, by which a policy may take the seats back")
	cmd.Flags().StringVar(&o.folder, "borrow-folder", "", "where borrowed seats are kept (env SEATKEEPER_BORROW_FOLDER)")
	cmd.Flags().StringVar(&o.seats.instanceID, "instance-id", "", "stable workload identity (pod UID, CI job)")
	cmd.Flags().StringVar(&o.state, "state", "", "file that lets the next run take over the seats if this one crashes (mode 0600)")
	return cmd
}

func (a *app) runWithSeats(ctx context.Context, o runOptions, features, command []string) error {
	items, err := runItems(features, o.seats.count)
	if err != nil {
		return err
	}
	if _, err := waitMillis(o.wait); err != nil {
		return err
	}
	if o.onLost != "warn" && o.onLost != "term" {
		return usagef("--on-lost %q: use warn or term", o.onLost)
	}
	path, err := findCommand(command[0])
	if err != nil {
		return err // before a seat is taken for nothing
	}
	cl, err := newClient(a.cfg.Client, callTimeout)
	if err != nil {
		return err
	}
	ctx, signals := relaySignals(ctx)
	defer signals.stop()
	o.end = func() { signals.send(terminateSignal) }
	borrowed, unusable := a.borrowedFor(o, items)
	ask := ctx
	if borrowed != nil {
		var cancel context.CancelFunc
		ask, cancel = context.WithTimeout(ctx, o.wait+offlinePatience)
		defer cancel()
	}
	instead := func(err error) error {
		switch {
		case signals.orElse(nil) != nil || !servesInstead(err):
		case borrowed != nil:
			return a.runBorrowed(ctx, cl, borrowed, o, err, func(env []string) error { return a.runCommandUnder(signals, path, command, env) })
		case unusable != nil:
			fmt.Fprintf(a.stderr, "seatkeeper: %s\n", oneLine(unusable.Error()))
		}
		return signals.orElse(apiError(err))
	}
	session, err := cl.OpenSession(ask, client.SessionConfig{
		InstanceID: o.seats.instanceID,
		Principal: lease.Principal{User: o.seats.user, Host: o.seats.host, Display: o.seats.display,
			VendorDefined: o.seats.vendorDefined, Project: o.seats.project},
		StateFile:     o.state,
		Booking:       o.seats.booking,
		OnQueued:      a.queueTeller(),
		Idle:          idleSince(o.idle),
		OnStateChange: func(c client.Change) { a.leaseChanged(c, o.onLost, signals) },
	})
	if err != nil {
		return instead(err)
	}
	defer a.giveBack(ctx, cl)
	leases, err := session.CheckoutWait(ask, o.wait, items...)
	if err != nil {
		return instead(err)
	}
	return a.runCommandUnder(signals, path, command, leaseEnv(session, leases))
}

// idleSince tells how long ago a file was changed; nil without a name. One that is not
// there tells of no idle time.
func idleSince(file string) func() time.Duration {
	if file == "" {
		return nil
	}
	return func() time.Duration {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return max(0, time.Since(info.ModTime()))
	}
}

// runItems are parseItems in the SDK's words.
func runItems(features []string, count int) ([]client.Item, error) {
	wire, err := parseItems(features, count)
	if err != nil {
		return nil, err
	}
	items := make([]client.Item, len(wire))
	for i, w := range wire {
		items[i] = client.Item{Feature: w.Feature, Version: w.Version, Count: int(w.Count)}
	}
	return items, nil
}

// leaseEnv tells CMD what it runs under, for resources that check the fencing token.
func leaseEnv(s *client.Session, leases []*client.Lease) []string {
	var ids, tokens []string
	for _, l := range leases {
		ids = append(ids, l.ID().String())
		tokens = append(tokens, strconv.FormatUint(uint64(l.Token()), 10))
	}
	return []string{
		"SEATKEEPER_SESSION_ID=" + s.ID().String(),
		"SEATKEEPER_LEASE_ID=" + strings.Join(ids, ","),
		"SEATKEEPER_FENCING_TOKEN=" + strings.Join(tokens, ","),
	}
}

// leaseChanged says in one line that a seat is lost, or back, while CMD runs.
func (a *app) leaseChanged(c client.Change, onLost string, signals *signalRelay) {
	l := c.Lease
	switch {
	case c.To == client.Lost:
		fmt.Fprintf(a.stderr, "seatkeeper: lost the seat of %s (lease %d): %s\n", l.Feature(), l.ID(), lostText(c.Reason, onLost))
		if onLost == "term" {
			signals.send(terminateSignal)
		}
	case c.From == client.Lost:
		fmt.Fprintf(a.stderr, "seatkeeper: the seat of %s (lease %d) is ours again: the cluster kept it\n", l.Feature(), l.ID())
	}
}

func lostText(reason lease.Reason, onLost string) string {
	why := string(reason)
	switch why {
	case "":
		why = "the cluster was out of reach for too long"
	case lease.ReleasedTimeout.String():
		why += ", it was idle for longer than the policy lets a seat be"
	}
	if onLost == "term" {
		return why + "; sending SIGTERM to the command"
	}
	return why + "; the command goes on (--on-lost=term would end it)"
}

// giveBack closes the session, also after a signal has ended ctx.
func (a *app) giveBack(ctx context.Context, cl *client.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnTimeout)
	defer cancel()
	if err := cl.Close(ctx); err != nil {
		fmt.Fprintf(a.stderr, "seatkeeper: seats not given back: %s\n", oneLine(err.Error()))
	}
}
