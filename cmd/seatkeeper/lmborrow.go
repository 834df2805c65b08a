package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/rpc/client"
)

const lmborrowUsage = `usage: lmborrow -status
       lmborrow -return [-c license_file_list] feature
to borrow: seatkeeper borrow FEATURE --for 72h
`

// lmborrow shows and returns the seats that are borrowed on this machine. -status needs
// no network.
func (u *lmutil) lmborrow(ctx context.Context, args []string) error {
	list, rest := lmList(args)
	switch {
	case len(rest) > 0 && rest[0] == "-status":
		seats, err := u.borrowed()
		if err != nil {
			return u.fail(ctx, "lmborrow", err)
		}
		writeBorrowed(u.stdout, seats)
		return nil
	case len(rest) > 1 && rest[0] == "-return":
		return u.returnBorrowed(ctx, list, rest[len(rest)-1])
	}
	fmt.Fprint(u.stdout, lmborrowUsage)
	return &exitError{code: exitError1}
}

// borrowed lists the seats that are borrowed on this machine.
func (u *lmutil) borrowed() ([]*client.BorrowedSeat, error) {
	dir, err := u.borrowFolder("")
	if err != nil {
		return nil, err
	}
	return client.BorrowedSeats(dir)
}

func (u *lmutil) returnBorrowed(ctx context.Context, list, feature string) error {
	seats, err := u.borrowed()
	if err != nil {
		return u.fail(ctx, "lmborrow", err)
	}
	if err := u.connect(list, 0); err != nil {
		return err
	}
	defer u.conn.Close()
	fmt.Fprintln(u.stdout, "lmborrow - Seatkeeper lmstat-format view")
	returned := 0
	for _, s := range seats {
		if lmFeatureName(s.Claims.Feature) != lmFeatureName(feature) {
			continue
		}
		if err := u.conn.client.ReturnBorrowed(ctx, s); err != nil {
			return u.fail(ctx, "lmborrow", apiError(err))
		}
		returned++
		fmt.Fprintf(u.stdout, "%s: returned %s\n", lmFeatureName(s.Claims.Feature), licences(s.Claims.Count))
	}
	if returned == 0 {
		return u.fail(ctx, "lmborrow", errors.New("no license of "+feature+" is borrowed on this machine"))
	}
	return nil
}

// writeBorrowed writes lmborrow -status: one line for each borrowed seat, with the local
// time until which it was given.
func writeBorrowed(w io.Writer, seats []*client.BorrowedSeat) {
	fmt.Fprintln(w, "lmborrow - Seatkeeper lmstat-format view")
	if len(seats) == 0 {
		fmt.Fprintln(w, "No licenses are borrowed on this machine.")
		return
	}
	fmt.Fprintf(w, "%-12s %-32s %-18s %s\n", "Vendor", "Feature", "Expiration", "Licenses")
	fmt.Fprintf(w, "%-12s %-32s %-18s %s\n", "______", "_______", "__________", "________")
	for _, s := range seats {
		fmt.Fprintf(w, "%-12s %-32s %-18s %d\n", lmVendorName(s.Claims.Vendor), lmFeatureName(s.Claims.Feature),
			strings.ToLower(s.Until().In(time.Local).Format("2-Jan-2006 15:04")), s.Claims.Count)
	}
}
