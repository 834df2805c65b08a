package checker

import (
	"fmt"
	"slices"
	"strings"
)

// Checker judges one promise.
type Checker func(*Run) Verdict

// Options of Judge.
type Options struct {
	// Dir is where pages are written (porcupine's); empty: none.
	Dir string
	// Only names the checkers to ask; empty means all.
	Only []string
}

// Report is the judgement of a run; it is written to results.edn.
type Report struct {
	Result   Result    `edn:"result"`
	Verdicts []Verdict `edn:"verdicts"`
}

// Exit codes of a run.
const (
	ExitValid         = 0
	ExitInvalid       = 1
	ExitNotConclusive = 2
)

// Exit is the exit code: invalid before not conclusive.
func (r *Report) Exit() int {
	switch r.Result {
	case Valid:
		return ExitValid
	case Invalid:
		return ExitInvalid
	}
	return ExitNotConclusive
}

// Of gives the verdict of one checker by name.
func (r *Report) Of(name string) *Verdict {
	for i := range r.Verdicts {
		if r.Verdicts[i].Name == name {
			return &r.Verdicts[i]
		}
	}
	return nil
}

// plainOnly are the checkers that know seats which are taken and given back, and nothing
// that reserves, books, lends or queues them.
var plainOnly = []string{"C2", "C5", "C10"}

// Judge asks all checkers. C0 comes first in the report and is asked last: it also says
// whether the others knew.
func Judge(r *Run, o Options) Report {
	var rep Report
	asked := func(name string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, name) }
	for i, c := range []Checker{
		CheckWitness, func(r *Run) Verdict { return CheckLinear(r, o.Dir) }, CheckBelief, CheckFencing, CheckLeaks, CheckOnce,
		CheckReplicas, CheckDurable, CheckAvailable, CheckExpiry, CheckTime, CheckReads,
	} {
		if name := fmt.Sprint("C", i+1); asked(name) && !(r.Ruled && slices.Contains(plainOnly, name)) {
			rep.Verdicts = append(rep.Verdicts, c(r))
		}
	}
	for i, c := range []Checker{CheckPromised, CheckQueue, CheckBorrowed, CheckBooked, CheckPolicy} {
		if r.Ruled && asked(fmt.Sprint("R", i+1)) {
			rep.Verdicts = append(rep.Verdicts, c(r))
		}
	}
	if asked("C0") {
		rep.enough(r)
	}
	rep.Result = Valid
	for _, x := range rep.Verdicts {
		if x.Result == Invalid || x.Result == Unknown && rep.Result == Valid {
			rep.Result = x.Result
		}
	}
	return rep
}

// enough puts C0 first.
func (rep *Report) enough(r *Run) {
	v := CheckEnough(r)
	var unsure []string
	for _, x := range rep.Verdicts {
		if x.Result == Unknown {
			unsure = append(unsure, x.Name)
		}
	}
	if len(unsure) > 0 && v.Result != Invalid {
		v.Result = Unknown
		v.Evidence = append(v.Evidence, fmt.Sprintf("not known: %s", strings.Join(unsure, ", ")))
		v.Cases++
	}
	rep.Verdicts = append([]Verdict{v}, rep.Verdicts...)
}
