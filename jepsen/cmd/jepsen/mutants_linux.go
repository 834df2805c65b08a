package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/run"
)

// trials is how often a scene is tried that allows no conclusion. A verdict that is not
// the one that was hoped for is never tried again.
const trials = 3

// mutantRow is a line of the table: a sown bug, or the same scene without any.
type mutantRow struct {
	bug, what, faults, checker, verdict, evidence string
	took                                          time.Duration
	code                                          int
}

// mutants plays a scene for each sown bug, which must turn the checker named for it red,
// and each scene once without a bug, which that checker must find valid: otherwise red
// proves nothing. Exit codes: 0 all so, 1 a bug was not seen, 2 not conclusive.
func (c *cli) mutants(ctx context.Context) int {
	if err := c.ready(); err != nil {
		return c.fail("%v", err)
	}
	began := time.Now()
	list := slices.DeleteFunc(run.Mutants(), func(m run.Mutant) bool {
		return c.only != "" && !slices.Contains(strings.Split(c.only, ","), m.Name)
	})
	if len(list) == 0 {
		return c.fail("no mutant is called %q", c.only)
	}
	var rows []mutantRow
	for i, m := range list {
		if !slices.ContainsFunc(list[:i], func(x run.Mutant) bool { return x.Scene == m.Scene }) {
			rows = append(rows, c.control(ctx, m.Scene, list)...)
		}
		rows = append(rows, c.mutant(ctx, m))
		if ctx.Err() != nil {
			return c.fail("interrupted")
		}
	}
	var table bytes.Buffer
	printTable(&table, rows)
	fmt.Fprintf(&table, "%d bugs, %.0f s, seed %d\n", len(list), time.Since(began).Seconds(), c.seed)
	fmt.Fprintf(c.out, "\n%s", table.String())
	path := filepath.Join(c.store, began.UTC().Format("20060102T150405")+"-mutants.txt")
	if err := os.WriteFile(path, table.Bytes(), 0o644); err != nil {
		return c.fail("%v", err)
	}
	return worst(rows)
}

// worst is the exit code of a table: a bug that was not seen before all else.
func worst(rows []mutantRow) int {
	code := checker.ExitValid
	for _, r := range rows {
		if r.code == checker.ExitInvalid {
			return checker.ExitInvalid
		}
		code = max(code, r.code)
	}
	return code
}

// try plays a scene until there is something to conclude.
func (c *cli) try(ctx context.Context, name string, s *run.Scene, m run.Mutant, only ...string) (*run.Trial, error) {
	var t *run.Trial
	for n := range trials {
		cfg, err := c.config(fmt.Sprintf("mutant-%s-%d", name, n+1), nil)
		if err != nil {
			return nil, err
		}
		cfg.Seed, cfg.Bug, cfg.Early = c.seed+uint64(n), m.Client, m.Name != ""
		if m.Broken != "" {
			cfg.Env = []string{"SEATKEEPER_BROKEN=" + m.Broken}
		}
		if t, err = run.Try(ctx, cfg, s, only...); err != nil || ctx.Err() != nil {
			return nil, cmp.Or(err, ctx.Err())
		}
		sure := t.Unsure == ""
		for _, v := range t.Verdicts {
			if v.Result == checker.Invalid {
				return t, nil // whatever else went wrong, this was seen
			}
			sure = sure && v.Result == checker.Valid
		}
		if sure {
			return t, nil
		}
		fmt.Fprintf(c.out, "%s: not conclusive: %s\n", name, t.Unsure)
	}
	return t, nil
}

// control plays a scene without a bug, for all checkers that somebody in list names.
func (c *cli) control(ctx context.Context, s *run.Scene, list []run.Mutant) (rows []mutantRow) {
	var names []string
	for _, m := range list {
		if m.Scene == s && !slices.Contains(names, m.Checker) {
			names = append(names, m.Checker)
		}
	}
	t, err := c.try(ctx, "none-"+s.Name, s, run.Mutant{}, names...)
	for _, name := range names {
		rows = append(rows, controlRow(run.Mutant{Name: "(none)", What: "nothing: " + s.Name, Checker: name, Scene: s}, t, err))
	}
	return c.tell(rows...)
}

// controlRow judges a scene without a bug: the checker must find it valid.
func controlRow(m run.Mutant, t *run.Trial, err error) mutantRow {
	r := row(m, t, err)
	switch {
	case err != nil:
	case t.Of(m.Checker).Result == checker.Invalid:
		r.verdict = "RED WITHOUT A BUG"
	case t.Of(m.Checker).Result == checker.Valid && t.Unsure == "":
		r.verdict, r.code = "valid", checker.ExitValid
	}
	return r
}

// mutant plays the scene of a bug.
func (c *cli) mutant(ctx context.Context, m run.Mutant) mutantRow {
	t, err := c.try(ctx, m.Name, m.Scene, m, m.Checker)
	return c.tell(sownRow(m, t, err))[0]
}

// sownRow judges the scene of a bug: the checker must find it invalid.
func sownRow(m run.Mutant, t *run.Trial, err error) mutantRow {
	r := row(m, t, err)
	switch {
	case err != nil:
	case t.Of(m.Checker).Result == checker.Invalid:
		r.verdict, r.code = "red", checker.ExitValid
	case t.Of(m.Checker).Result == checker.Valid && t.Unsure == "":
		r.verdict, r.code = "NOT SEEN", checker.ExitInvalid
	}
	return r
}

// row is what is known whatever the verdict; there is none yet.
func row(m run.Mutant, t *run.Trial, err error) mutantRow {
	r := mutantRow{bug: m.Name, what: m.What, faults: strings.Join(slices.Compact(slices.Clone(m.Scene.Faults)), ", "), checker: m.Checker,
		verdict: "not conclusive", code: checker.ExitNotConclusive}
	r.faults = cmp.Or(r.faults, "none")
	if err != nil {
		r.evidence = err.Error()
		return r
	}
	v := t.Of(m.Checker)
	r.took, r.evidence = t.Took, v.Summary
	if len(v.Evidence) > 0 {
		r.evidence = fmt.Sprintf("%s (%d cases)", v.Evidence[0], v.Cases)
	}
	if v.Result != checker.Invalid && t.Unsure != "" {
		r.evidence = t.Unsure
	}
	return r
}

func (c *cli) tell(rows ...mutantRow) []mutantRow {
	for _, r := range rows {
		fmt.Fprintf(c.out, "=== %s: %s is %s: %s\n", r.bug, r.checker, r.verdict, r.evidence)
	}
	return rows
}

// maxEvidence keeps a line of the table on a screen.
const maxEvidence = 140

func printTable(out io.Writer, rows []mutantRow) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mutant\twhat is broken\tfault\tchecker\tverdict\tseconds\tevidence")
	for _, r := range rows {
		evidence := strings.Join(strings.Fields(r.evidence), " ")
		if len(evidence) > maxEvidence {
			evidence = evidence[:maxEvidence] + "…"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.0f\t%s\n", r.bug, r.what, r.faults, r.checker, r.verdict, r.took.Seconds(), evidence)
	}
	w.Flush()
}
