package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/nemesis"
	"github.com/seatkeeper/seatkeeper/jepsen/run"
)

// mutants makes one run for each sown bug and prints who saw it. It is invalid if some
// bug was seen by none of the checkers named for it.
func (c *cli) mutants(ctx context.Context) int {
	if err := c.ready(); err != nil {
		return c.fail("%v", err)
	}
	var table []string
	code := checker.ExitValid
	for _, m := range run.Mutants() {
		if c.only != "" && !slices.Contains(strings.Split(c.only, ","), m.Name()) {
			continue
		}
		red, err := c.mutant(ctx, m)
		if ctx.Err() != nil {
			return c.fail("interrupted")
		}
		verdict := "seen"
		seen := slices.ContainsFunc(m.Checkers, func(name string) bool { return slices.Contains(red, name) })
		switch {
		case err != nil && !seen:
			verdict, code = "not conclusive: "+err.Error(), max(code, checker.ExitNotConclusive)
		case !seen:
			verdict, code = "NOT SEEN", checker.ExitInvalid
		}
		table = append(table, fmt.Sprintf("%-18s %-14s %-24s %s (%s)", m.Name(), strings.Join(m.Checkers, " or "), "red: "+strings.Join(red, " "), verdict, m.What))
		fmt.Fprintln(c.out, table[len(table)-1])
	}
	fmt.Fprintf(c.out, "\n%s\n", strings.Join(table, "\n"))
	return code
}

// mutant makes one run and returns the names of the checkers that turned red.
func (c *cli) mutant(ctx context.Context, m run.Mutant) (red []string, err error) {
	families, err := nemesis.Named(m.Faults...)
	if err != nil {
		return nil, err
	}
	cfg, err := c.config("mutant-"+m.Name(), families)
	if err != nil {
		return nil, err
	}
	cfg.Bug = m.Client
	if m.Guard != "" {
		cfg.Env = []string{"SEATKEEPER_BROKEN=" + m.Guard}
	}
	runErr := run.Execute(ctx, cfg)
	report, err := run.Judge(cfg.Dir)
	if err != nil {
		return nil, err
	}
	for _, v := range report.Verdicts {
		if v.Result == checker.Invalid {
			red = append(red, v.Name)
		}
	}
	return red, runErr
}
