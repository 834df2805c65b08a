package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// maxHistory bounds how many records one command fetches: more is for a file, by pages of
// a smaller span.
const maxHistory = 500_000

// historyFlags narrow what is told of usage and denials.
type historyFlags struct {
	feature, user, host, project string
	since, until                 string
}

func (f *historyFlags) add(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{"csv": "yes"}
	l := cmd.Flags()
	l.StringVar(&f.feature, "feature", "", "only this feature")
	l.StringVar(&f.user, "user", "", "only this user")
	l.StringVar(&f.host, "host", "", "only this host")
	l.StringVar(&f.project, "project", "", "only this project")
	l.StringVar(&f.since, "since", "", "since when: RFC 3339, a day (2026-02-10), or how long ago (24h, 30d)")
	l.StringVar(&f.until, "until", "", "until when: as --since")
	l.StringVar(&f.since, "from", "", "the same as --since")
	l.StringVar(&f.until, "to", "", "the same as --until")
}

// span gives since and until in the API's form.
func (f *historyFlags) span(now time.Time) (from, to string, err error) {
	if from, err = timeArg("--since", f.since, now); err == nil {
		to, err = timeArg("--until", f.until, now)
	}
	return from, to, err
}

// printRows writes v as print does, and rows as CSV too: the first is the heading.
func (a *app) printRows(v any, rows [][]any, notes ...string) error {
	if a.cfg.Client.Format != "csv" {
		return a.print(v, func(t *table) {
			for _, r := range rows {
				t.row(r...)
			}
			for _, n := range notes {
				t.text("%s", n)
			}
		})
	}
	w := csv.NewWriter(a.stdout)
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = fmt.Sprint(c)
		}
		_ = w.Write(cells) // Flush tells
	}
	w.Flush()
	for _, n := range notes {
		fmt.Fprintln(a.stderr, "seatkeeper: "+n)
	}
	return w.Error()
}

// when shows a time: local for people, as it is for programs.
func (a *app) when(s string) string {
	if a.cfg.Client.Format == "table" {
		return localTime(s)
	}
	return s
}

const truncatedNote = "older records, or such as this node does not have, are left out"

func notesOf(truncated bool) []string {
	if truncated {
		return []string{truncatedNote}
	}
	return nil
}

func (a *app) usageCommand() *cobra.Command {
	var f historyFlags
	var by string
	var peaks bool
	var step time.Duration
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Who used what: records, sums, peaks, concurrency over time",
		Long: `Without further flags: ended leases, from when to when, and why each ended. --by adds up
seat time, peaks and denials by user, host, feature or project, with what goes on now; or by
the groups of the policy as it is now, where who is in several counts in each.
--concurrency tells for each step how many seats were in use. Each node answers from its
own files, which agree unless one was behind and says so.`,
		Example: `  seatkeeper usage --since 24h
  seatkeeper usage --since 30d --by user -o csv
  seatkeeper usage --since 8h --concurrency 15m --feature cad`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, to, err := f.span(time.Now())
			if err != nil {
				return err
			}
			if by != "" && !slices.Contains([]string{"user", "host", "feature", "project", "group", "host_group"}, by) {
				return usagef("--by %q: use user, host, feature, project, group or host_group", by)
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			switch {
			case cmd.Flags().Changed("concurrency"):
				return a.concurrency(cmd.Context(), c, &f, from, to, step)
			case by != "" || peaks:
				return a.usageSums(cmd.Context(), c, &f, from, to, by)
			}
			return a.usageRecords(cmd.Context(), c, &f, from, to)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&by, "by", "", "add up by user, host, feature, project, group or host_group")
	cmd.Flags().BoolVar(&peaks, "peaks", false, "the most seats in use at one time (by feature unless --by says otherwise)")
	cmd.Flags().DurationVar(&step, "concurrency", 15*time.Minute, "seats in use over time, in steps of this length")
	return cmd
}

func (a *app) usageRecords(ctx context.Context, c *conn, f *historyFlags, from, to string) error {
	req := &pb.UsageRequest{Tenant: a.cfg.Client.Tenant, Feature: f.feature, User: f.user, Host: f.host, Project: f.project, From: from, To: to}
	all := &pb.UsageResponse{}
	for {
		page, err := c.cluster.Usage(ctx, req)
		if err != nil {
			return apiError(err)
		}
		all.Records = append(page.Records, all.Records...)
		all.Truncated = page.Truncated
		if page.NextPageToken == "" || len(all.Records) >= maxHistory {
			break
		}
		req.PageToken = page.NextPageToken
	}
	rows := [][]any{{"FEATURE", "VERSION", "COUNT", "USER", "HOST", "PROJECT", "START", "END", "SECONDS", "REASON", "LEASE"}}
	for _, r := range all.Records {
		rows = append(rows, []any{r.Feature, r.Version, r.Count, r.User, r.Host, r.Project, a.when(r.Start), a.when(r.End), seconds(float64(r.DurationMs) / 1000), r.Reason, r.LeaseId})
	}
	return a.printRows(all, rows, notesOf(all.Truncated)...)
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

func (a *app) usageSums(ctx context.Context, c *conn, f *historyFlags, from, to, by string) error {
	answer, err := c.history.UsageSums(ctx, &pb.UsageSumsRequest{Tenant: a.cfg.Client.Tenant, Feature: f.feature, User: f.user, Host: f.host,
		Project: f.project, From: from, To: to, By: by})
	if err != nil {
		return apiError(err)
	}
	rows := [][]any{{"FEATURE", "KEY", "CHECKOUTS", "SEAT_SECONDS", "PEAK", "DENIALS"}}
	for _, s := range answer.Sums {
		rows = append(rows, []any{s.Feature, s.Key, s.Checkouts, seconds(s.SeatSeconds), s.Peak, s.Denials})
	}
	return a.printRows(answer, rows, notesOf(answer.Truncated)...)
}

func (a *app) concurrency(ctx context.Context, c *conn, f *historyFlags, from, to string, step time.Duration) error {
	if step < time.Second {
		return usagef("--concurrency %v: use steps of 1s or more", step)
	}
	if from == "" {
		from = time.Now().Add(-24 * time.Hour).Format(time.RFC3339)
	}
	answer, err := c.history.Concurrency(ctx, &pb.ConcurrencyRequest{Tenant: a.cfg.Client.Tenant, Feature: f.feature, User: f.user, Host: f.host,
		Project: f.project, From: from, To: to, StepMs: uint64(step.Milliseconds())})
	if err != nil {
		return apiError(err)
	}
	rows := [][]any{{"START", "FEATURE", "PEAK", "MEAN"}}
	for _, p := range answer.Points {
		rows = append(rows, []any{a.when(p.Start), p.Feature, p.Peak, fmt.Sprintf("%.2f", p.Mean)})
	}
	return a.printRows(answer, rows, notesOf(answer.Truncated)...)
}

func (a *app) denialsCommand() *cobra.Command {
	var f historyFlags
	var onlyTrue bool
	cmd := &cobra.Command{
		Use:   "denials",
		Short: "Who was refused what, and why",
		Long: `Refused requests, oldest first. SERVED is when the same session, or the same user and host,
got the seat after all within an hour: that was no true denial, and --true leaves it out.
FINAL means that asking again could not help as things stood.`,
		Example: `  seatkeeper denials --since 24h --feature cad
  seatkeeper denials --since 30d --true -o csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, to, err := f.span(time.Now())
			if err != nil {
				return err
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			return a.denials(cmd.Context(), c, &pb.DenialsRequest{Tenant: a.cfg.Client.Tenant, Feature: f.feature, User: f.user, Host: f.host,
				Project: f.project, From: from, To: to}, onlyTrue)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&onlyTrue, "true", false, "leave out denials whose asker got the seat soon after")
	return cmd
}

func (a *app) denials(ctx context.Context, c *conn, req *pb.DenialsRequest, onlyTrue bool) error {
	all := &pb.DenialsResponse{}
	for {
		page, err := c.history.Denials(ctx, req)
		if err != nil {
			return apiError(err)
		}
		all.Denials = append(page.Denials, all.Denials...)
		all.Truncated = page.Truncated
		if page.NextPageToken == "" || len(all.Denials) >= maxHistory {
			break
		}
		req.PageToken = page.NextPageToken
	}
	if onlyTrue {
		all.Denials = slices.DeleteFunc(all.Denials, func(d *pb.Denial) bool { return d.Served != "" })
	}
	rows := [][]any{{"TIME", "FEATURE", "VERSION", "COUNT", "USER", "HOST", "PROJECT", "REASON", "FLEXNET", "FINAL", "SERVED"}}
	for _, d := range all.Denials {
		rows = append(rows, []any{a.when(d.Time), d.Feature, d.Version, d.Count, d.User, d.Host, d.Project, d.Reason, d.Flexnet, yesNo(d.Final), a.when(d.Served)})
	}
	return a.printRows(all, rows, notesOf(all.Truncated)...)
}

// timeArg reads a time, a local day, or a span before now, as RFC 3339.
func timeArg(flag, s string, now time.Time) (string, error) {
	if s == "" {
		return "", nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.Format(time.RFC3339), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t.Format(time.RFC3339), nil
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(s, "d")); err == nil && strings.HasSuffix(s, "d") && n >= 0 {
		return now.AddDate(0, 0, -n).Format(time.RFC3339), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d).Format(time.RFC3339), nil
	}
	return "", usagef("%s %q: use 2026-02-10T08:00:00Z, 2026-02-10, 24h or 30d for so long ago", flag, s)
}
