package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// offlinePatience is how long run looks for the cluster when it has borrowed seats for all
// that is asked: longer than an election takes, and what a person without network bears.
const offlinePatience = 3 * time.Second

// borrowedSeats are the seats of one run, and where they are kept.
type borrowedSeats struct {
	folder string
	holder offline.Holder
	items  []client.Item
	seats  []*client.BorrowedSeat
}

// borrowedFor finds borrowed seats for all of items. why says, if there is a seat for one
// of them that may not be used, what is wrong with it.
func (a *app) borrowedFor(o runOptions, items []client.Item) (found *borrowedSeats, why error) {
	dir, err := a.borrowFolder(o.folder)
	if err != nil {
		return nil, nil // then nothing was borrowed
	}
	b := &borrowedSeats{folder: dir, holder: offline.Holder{User: o.seats.user, Host: o.seats.host, InstanceID: o.seats.instanceID}, items: items}
	if b.seats, err = b.find(); err == nil {
		return b, nil
	}
	if offline.CodeOf(err) != "" {
		return nil, err
	}
	return nil, nil
}

func (b *borrowedSeats) find() (seats []*client.BorrowedSeat, err error) {
	for _, it := range b.items {
		s, err := client.FindBorrowed(b.folder, it, b.holder)
		if err != nil {
			return nil, err
		}
		seats = append(seats, s)
	}
	return seats, nil
}

// until is when the first of the seats ends.
func (b *borrowedSeats) until() time.Time {
	first := b.seats[0].Until()
	for _, s := range b.seats {
		if s.Until().Before(first) {
			first = s.Until()
		}
	}
	return first
}

// servesInstead says whether a borrowed seat may stand in after this error.
func servesInstead(err error) bool {
	switch client.ReasonOf(err) {
	case client.Unreachable, client.NotLeader, client.UnknownOutcome, lease.NoSeats, lease.SessionsExceeded, "max_reached", "reserved_for_others", "queued":
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// runBorrowed runs CMD on borrowed seats; why is what kept us from the cluster's.
func (a *app) runBorrowed(ctx context.Context, cl *client.Client, b *borrowedSeats, o runOptions, why error, run func(env []string) error) error {
	because := "the cluster is out of reach"
	if r := client.ReasonOf(why); r != client.Unreachable && r != client.NotLeader && r != client.UnknownOutcome && r != "" {
		because = "the cluster has no free seat"
	}
	fmt.Fprintf(a.stderr, "seatkeeper: %s: running on what was borrowed until %s\n", because, b.until().Local().Format("2006-01-02 15:04:05"))
	env := borrowedEnv(b.seats) // they are changed below
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, s := range b.seats {
		go func() { _ = cl.KeepBorrowed(ctx, s) }() // when the cluster comes back
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.watchBorrowed(ctx, b, o)
	}()
	err := run(env)
	cancel()
	<-ended
	return err
}

// watchBorrowed says in one line that a borrowed seat has ended while CMD runs. It reads
// the files anew: they may have been renewed.
func (a *app) watchBorrowed(ctx context.Context, b *borrowedSeats, o runOptions) {
	for {
		seats, err := b.find()
		if err != nil {
			fmt.Fprintf(a.stderr, "seatkeeper: %s; %s\n", oneLine(err.Error()), o.lostNote())
			if o.onLost == "term" {
				o.end()
			}
			return
		}
		wait := time.Minute // what was revoked or wound back shows by then
		for _, s := range seats {
			wait = min(wait, time.Until(s.Until()))
		}
		select {
		case <-time.After(max(wait, 10*time.Millisecond)):
		case <-ctx.Done():
			return
		}
	}
}

func (o runOptions) lostNote() string {
	if o.onLost == "term" {
		return "sending SIGTERM to the command"
	}
	return "the command goes on (--on-lost=term would end it)"
}

// borrowedEnv tells CMD what it runs under.
func borrowedEnv(seats []*client.BorrowedSeat) []string {
	var ids, tokens []string
	for _, s := range seats {
		ids = append(ids, s.Claims.LeaseID.String())
		tokens = append(tokens, strconv.FormatUint(uint64(s.Claims.FencingToken), 10))
	}
	return []string{
		"SEATKEEPER_LEASE_ID=" + strings.Join(ids, ","),
		"SEATKEEPER_FENCING_TOKEN=" + strings.Join(tokens, ","),
		"SEATKEEPER_BORROWED_UNTIL=" + seats[0].Until().UTC().Format(time.RFC3339),
	}
}
