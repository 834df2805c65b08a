package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// borrowFlags say where borrowed seats are kept and whose they are.
type borrowFlags struct {
	folder     string
	user, host string
	instanceID string
}

func (f *borrowFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.folder, "folder", "", "where borrowed seats are kept (env SEATKEEPER_BORROW_FOLDER; default: seatkeeper/borrowed in your configuration folder)")
	cmd.Flags().StringVar(&f.user, "user", osUser(), "whose the seats are")
	cmd.Flags().StringVar(&f.host, "host", osHost(), "the host they are bound to")
	cmd.Flags().StringVar(&f.instanceID, "instance-id", "", "bind them to a stable workload identity instead of user and host")
}

func (f *borrowFlags) holder() offline.Holder {
	return offline.Holder{User: f.user, Host: f.host, InstanceID: f.instanceID}
}

// borrowFolder is where seats are kept: by flag, environment or default.
func (a *app) borrowFolder(flag string) (string, error) {
	if flag == "" {
		flag, _ = a.lookupEnv("SEATKEEPER_BORROW_FOLDER")
	}
	if flag != "" {
		return flag, nil
	}
	return client.BorrowFolder()
}

func (a *app) borrowCommand() *cobra.Command {
	var f borrowFlags
	var term time.Duration
	var count int
	var id sessionFlags
	cmd := &cobra.Command{
		Use:   "borrow FEATURE[:VERSION] --for 72h",
		Short: "Take a seat to where there is no network; return gives it back early",
		Long: `Takes a seat for a time in which the cluster need not be reached. It stays in use on the
cluster until then, whatever becomes of this machine; a signed token that stands for it is
kept in your configuration folder. "seatkeeper run" uses it when the cluster cannot be
reached; programs that embed the SDK verify it by themselves. The token is bound to user
and host, or to --instance-id.

A seat that was taken by "seatkeeper checkout" is borrowed as it is, without being free for a
moment, if its session is named: --state FILE, or --session ID with the secret as checkin
takes it.`,
		Example: `  seatkeeper borrow cad:2026.0 --for 72h
  seatkeeper borrow list
  seatkeeper run cad -- /opt/cad/bin/cad        (online or not)
  seatkeeper return cad`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("which feature? write seatkeeper borrow FEATURE[:VERSION] --for 72h")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if term <= 0 {
				return usagef("for how long? add --for 72h")
			}
			var held *client.HeldSession
			if id != (sessionFlags{}) {
				s, err := a.resumeSession(id)
				if err != nil {
					return err
				}
				held = &client.HeldSession{ID: s.ID, Secret: s.Secret, Incarnation: s.Incarnation}
			}
			return a.borrow(cmd.Context(), f, args[0], count, term, held)
		},
	}
	f.add(cmd)
	id.add(cmd)
	cmd.Flags().DurationVar(&term, "for", 0, "for how long; licence and policy say how long it may be")
	cmd.Flags().IntVarP(&count, "count", "n", 1, "seats")
	cmd.AddCommand(a.borrowListCommand(), a.borrowVerifyCommand(), a.borrowRenewCommand(), a.borrowKeysCommand(), a.borrowRotateCommand(), a.borrowRevokeCommand())
	return cmd
}

func (a *app) borrow(ctx context.Context, f borrowFlags, feature string, count int, term time.Duration, held *client.HeldSession) error {
	items, err := runItems([]string{feature}, count)
	if err != nil {
		return err
	}
	if len(items) != 1 {
		return usagef("borrow one feature at a time")
	}
	dir, err := a.borrowFolder(f.folder)
	if err != nil {
		return err
	}
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.client.Borrow(ctx, client.BorrowConfig{Item: items[0], For: term, Folder: dir, InstanceID: f.instanceID, Held: held,
		Principal: lease.Principal{User: f.user, Host: f.host}})
	if err != nil {
		return apiError(err)
	}
	shown := showSeat(s, f.holder())
	return a.print(shown, func(t *table) {
		t.text("borrowed %d of %s %s until %s (lease %s)", shown.Count, shown.Feature, shown.Version, localTime(shown.Until), shown.Lease)
		t.text("seatkeeper run uses it when the cluster cannot be reached; seatkeeper return %s gives it back", shown.Feature)
	})
}

// seatShown is a borrowed seat as this machine knows it.
type seatShown struct {
	Feature string `json:"feature"`
	Version string `json:"version"`
	Count   int    `json:"count"`
	Until   string `json:"until"`
	// State is "valid", or why it may not be used.
	State      string `json:"state"`
	Message    string `json:"message"`
	Lease      string `json:"lease_id"`
	Token      string `json:"fencing_token"`
	User       string `json:"user"`
	Host       string `json:"host"`
	InstanceID string `json:"instance_id"`
	RenewDue   bool   `json:"renew_due"`
	File       string `json:"file"`
}

func showSeat(s *client.BorrowedSeat, h offline.Holder) seatShown {
	x := seatShown{State: "valid"}
	if err := s.Verify(h); err != nil {
		x.State, x.Message = string(offline.CodeOf(err)), err.Error()
	}
	c := &s.Claims
	x.Feature, x.Version, x.Count, x.Until = c.Feature, c.Version, c.Count, s.Until().UTC().Format(time.RFC3339)
	x.Lease, x.Token = c.LeaseID.String(), strconv.FormatUint(uint64(c.FencingToken), 10)
	x.User, x.Host, x.InstanceID, x.RenewDue, x.File = c.User, c.Host, c.InstanceID, s.RenewDue(), s.Path()
	return x
}

func (a *app) borrowListCommand() *cobra.Command {
	var f borrowFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the seats that are borrowed on this machine (seatkeeper leases --state borrowed: on the cluster)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.borrowFolder(f.folder)
			if err != nil {
				return err
			}
			seats, err := client.BorrowedSeats(dir)
			if err != nil {
				return err
			}
			list := struct {
				Seats []seatShown `json:"seats"`
			}{Seats: []seatShown{}}
			for _, s := range seats {
				list.Seats = append(list.Seats, showSeat(s, f.holder()))
			}
			return a.print(list, func(t *table) {
				t.row("FEATURE", "VERSION", "COUNT", "UNTIL", "STATE", "LEASE")
				for _, s := range list.Seats {
					t.row(s.Feature, s.Version, s.Count, localTime(s.Until), s.State, s.Lease)
				}
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) borrowVerifyCommand() *cobra.Command {
	var f borrowFlags
	var alone bool
	cmd := &cobra.Command{
		Use:   "verify FEATURE[:VERSION]",
		Short: "Say whether a borrowed seat may be used now; --offline asks nobody",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seat, err := a.findBorrowed(f, args[0])
			if err != nil {
				return err
			}
			shown := showSeat(seat, f.holder())
			if !alone {
				if err := a.verifyOnline(cmd.Context(), seat); err != nil {
					return err
				}
			}
			return a.print(shown, func(t *table) {
				t.text("%s %s is borrowed until %s (lease %s)", shown.Feature, shown.Version, localTime(shown.Until), shown.Lease)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&alone, "offline", false, "ask nobody: signature, times and holder decide")
	return cmd
}

// findBorrowed finds the seat that may be used; exit code 77 if there is one that may not.
func (a *app) findBorrowed(f borrowFlags, feature string) (*client.BorrowedSeat, error) {
	items, err := runItems([]string{feature}, 1)
	if err != nil {
		return nil, err
	}
	dir, err := a.borrowFolder(f.folder)
	if err != nil {
		return nil, err
	}
	seat, err := client.FindBorrowed(dir, items[0], f.holder())
	switch {
	case err == nil:
		return seat, nil
	case offline.CodeOf(err) != "":
		return nil, exitf(exitNotAllowed, "%w", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, exitf(exitError1, "no seat of %s is borrowed on this machine; seatkeeper borrow %s --for 72h does", items[0].Feature, items[0].Feature)
	}
	return nil, err
}

// verifyOnline asks the cluster, too: it knows what was revoked.
func (a *app) verifyOnline(ctx context.Context, s *client.BorrowedSeat) error {
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := c.client.Verify(ctx, s.Claims.Ref())
	if err != nil {
		return apiError(err)
	}
	if !answer.Valid {
		return exitf(exitNotAllowed, "the cluster has ended or revoked lease %d: the seat of %s may not be used any more", s.Claims.LeaseID, s.Claims.Feature)
	}
	return nil
}

func (a *app) borrowRenewCommand() *cobra.Command {
	var f borrowFlags
	var term time.Duration
	cmd := &cobra.Command{
		Use:   "renew FEATURE[:VERSION]",
		Short: "Borrow a seat for longer: --for from now, or as long as at first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seat, err := a.findBorrowed(f, args[0])
			if err != nil {
				return err
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.client.RenewBorrowed(cmd.Context(), seat, term); err != nil {
				return apiError(err)
			}
			shown := showSeat(seat, f.holder())
			return a.print(shown, func(t *table) { t.text("borrowed %s until %s", shown.Feature, localTime(shown.Until)) })
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&term, "for", 0, "for how long from now")
	return cmd
}

func (a *app) returnCommand() *cobra.Command {
	var f borrowFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "return FEATURE…",
		Short: "Give borrowed seats back before their end",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("return what? name features, or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.returnSeats(cmd.Context(), f, args, all) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all seats that are borrowed on this machine")
	return cmd
}

func (a *app) returnSeats(ctx context.Context, f borrowFlags, features []string, all bool) error {
	dir, err := a.borrowFolder(f.folder)
	if err != nil {
		return err
	}
	seats, err := client.BorrowedSeats(dir)
	if err != nil {
		return err
	}
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	left := map[string]bool{}
	for _, name := range splitFeatures(features) {
		left[name] = true
	}
	out := struct {
		Returned []seatShown `json:"returned"`
	}{Returned: []seatShown{}}
	for _, s := range seats {
		if !all && !left[s.Claims.Feature] {
			continue
		}
		delete(left, s.Claims.Feature)
		shown := showSeat(s, f.holder())
		if err := c.client.ReturnBorrowed(ctx, s); err != nil {
			return apiError(err)
		}
		out.Returned = append(out.Returned, shown)
	}
	for name := range left {
		return exitf(exitError1, "no seat of %s is borrowed on this machine; seatkeeper borrow list shows those that are", name)
	}
	return a.print(out, func(t *table) {
		for _, s := range out.Returned {
			t.text("returned %d of %s %s (lease %s)", s.Count, s.Feature, s.Version, s.Lease)
		}
	})
}

// splitFeatures are the names alone: a version does not matter for what one has.
func splitFeatures(words []string) []string {
	items, err := runItems(words, 1)
	if err != nil {
		return words
	}
	var names []string
	for _, it := range items {
		names = append(names, it.Feature)
	}
	return names
}

func (a *app) borrowKeysCommand() *cobra.Command {
	var set bool
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List the keys that tokens are verified by (--jwks: as the JWK set)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Borrowing().BorrowKeys(cmd.Context(), &pb.BorrowKeysRequest{})
			if err != nil {
				return apiError(err)
			}
			if set {
				return a.printJWKS(answer)
			}
			return a.print(answer, func(t *table) {
				t.row("KID", "SIGNS", "CREATED", "TOKENS VALID UNTIL")
				for _, k := range answer.Keys {
					t.row(k.Kid, k.Signs, localTime(k.Created), localTime(k.ValidUntil))
				}
			})
		},
	}
	cmd.Flags().BoolVar(&set, "jwks", false, "print the JWK set of /.well-known/jwks.json")
	return cmd
}

func (a *app) printJWKS(answer *pb.BorrowKeysResponse) error {
	keys := offline.Keys{Keys: []offline.Key{}}
	for _, k := range answer.Keys {
		key := offline.NewKey(k.Kid, [32]byte{})
		key.X = k.X
		keys.Keys = append(keys.Keys, key)
	}
	text, err := json.MarshalIndent(keys, "", "  ")
	if err == nil {
		_, err = fmt.Fprintln(a.stdout, string(text))
	}
	return err
}

func (a *app) borrowRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Sign tokens with a new key; the old one is known until its last token has expired",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Borrowing().RotateBorrowKey(cmd.Context(), &pb.RotateBorrowKeyRequest{})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) { t.text("tokens are signed with key %s from now on", answer.Kid) })
		},
	}
}

func (a *app) borrowRevokeCommand() *cobra.Command {
	var now bool
	var id uint64
	cmd := &cobra.Command{
		Use:   "revoke HANDLE",
		Short: "Forbid the use of a borrowed seat; it stays in use until its end, or --now as an overdraft",
		Long: `Forbids the use of a borrowed seat. Its holder may be offline and not know, so the seat
stays in use (state quarantined) until the time it was borrowed for is over. With --now it
is free at once: until that time the borrower and the next holder may both use it, and the
cluster shows the overdraft as an alarm.`,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == (id != 0) || len(args) > 1 {
				return usagef("revoke which lease? name one handle of seatkeeper leases --state borrowed, or --lease")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.RevokeBorrowRequest{Tenant: a.cfg.Client.Tenant, LeaseId: id, Now: now}
			if len(args) == 1 {
				n, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil || n == 0 {
					return usagef("%q is no handle: use the number in the HANDLE column of seatkeeper leases", args[0])
				}
				req.Handle = uint32(n)
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.client.Borrowing().RevokeBorrow(cmd.Context(), req)
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) {
				if q := answer.Quarantined; q != nil {
					t.text("revoked: the seat of %s (lease %d) stays in use until %s", q.Feature, q.Id, localTime(q.GetUntil()))
					return
				}
				r := answer.Released
				t.text("revoked: the seat of %s (lease %d) is free; its borrower may still use it until the token ends (an overdraft)", r.GetFeature(), r.GetId())
			})
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "free the seat at once: until the borrower's end two may use it")
	cmd.Flags().Uint64Var(&id, "lease", 0, "lease id, instead of a handle")
	return cmd
}
