package main

import (
	"errors"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/run"
)

func TestOneBugThatWasNotSeenDecides(t *testing.T) {
	for _, c := range []struct {
		codes []int
		want  int
	}{
		{[]int{checker.ExitValid, checker.ExitValid}, checker.ExitValid},
		{[]int{checker.ExitValid, checker.ExitNotConclusive}, checker.ExitNotConclusive},
		{[]int{checker.ExitNotConclusive, checker.ExitInvalid, checker.ExitValid}, checker.ExitInvalid},
	} {
		var rows []mutantRow
		for _, code := range c.codes {
			rows = append(rows, mutantRow{code: code})
		}
		if got := worst(rows); got != c.want {
			t.Errorf("%v: exit %d, want %d", c.codes, got, c.want)
		}
	}
}

func TestATrialIsWorthWhatItShows(t *testing.T) {
	says := func(r checker.Result, unsure string) *run.Trial {
		return &run.Trial{Verdicts: []checker.Verdict{{Name: "C3", Result: r}}, Unsure: unsure}
	}
	for name, c := range map[string]struct {
		trial        *run.Trial
		err          error
		sown, unsown int
	}{
		"red":                       {says(checker.Invalid, ""), nil, checker.ExitValid, checker.ExitNotConclusive},
		"red before the run failed": {says(checker.Invalid, "broken off"), nil, checker.ExitValid, checker.ExitNotConclusive},
		"valid":                     {says(checker.Valid, ""), nil, checker.ExitInvalid, checker.ExitValid},
		"valid, but no fault bit":   {says(checker.Valid, "no fault bit"), nil, checker.ExitNotConclusive, checker.ExitNotConclusive},
		"too little happened":       {says(checker.Unknown, ""), nil, checker.ExitNotConclusive, checker.ExitNotConclusive},
		"another checker was asked": {&run.Trial{}, nil, checker.ExitNotConclusive, checker.ExitNotConclusive},
		"no run":                    {nil, errors.New("no namespace"), checker.ExitNotConclusive, checker.ExitNotConclusive},
	} {
		m := run.Mutant{Name: "m", Checker: "C3", Scene: &run.Scene{}}
		if got := sownRow(m, c.trial, c.err).code; got != c.sown {
			t.Errorf("%s, with the bug: %d, want %d", name, got, c.sown)
		}
		if got := controlRow(m, c.trial, c.err).code; got != c.unsown {
			t.Errorf("%s, without: %d, want %d", name, got, c.unsown)
		}
	}
}
