package checker

import "fmt"

// Result is what a checker says.
type Result string

// The results, from good to bad.
const (
	Valid   Result = "valid"
	Unknown Result = "unknown"
	Invalid Result = "invalid"
)

// maxEvidence bounds what one verdict shows: the first cases tell the story.
const maxEvidence = 20

// Verdict is the judgement of one checker.
type Verdict struct {
	Name    string `edn:"name"`  // C0 … C12
	Title   string `edn:"title"` // what it judges, in a few words
	Result  Result `edn:"result"`
	Summary string `edn:"summary"`
	// Evidence are the first cases against it, or what is missing; Cases is how many
	// there are.
	Evidence []string `edn:"evidence,omitempty"`
	Cases    int      `edn:"cases,omitempty"`
	// Files are pages written beside the results.
	Files []string `edn:"files,omitempty"`
}

// jury collects a verdict.
type jury struct {
	v      Verdict
	judged int
}

func newJury(name, title string) *jury { return &jury{v: Verdict{Name: name, Title: title}} }

// guilty notes a case that makes the run invalid.
func (j *jury) guilty(format string, args ...any) {
	if j.v.Result != Invalid {
		j.v.Result, j.v.Evidence, j.v.Cases = Invalid, nil, 0
	}
	j.note(format, args...)
}

// missing notes why nothing can be said, unless something worse is known.
func (j *jury) missing(format string, args ...any) {
	if j.v.Result == Invalid {
		return
	}
	j.v.Result = Unknown
	j.note(format, args...)
}

func (j *jury) note(format string, args ...any) {
	if j.v.Cases++; len(j.v.Evidence) < maxEvidence {
		j.v.Evidence = append(j.v.Evidence, fmt.Sprintf(format, args...))
	}
}

// done ends the case. A checker that judged nothing does not know.
func (j *jury) done(format string, args ...any) Verdict {
	if j.judged == 0 && j.v.Result == "" {
		j.missing("there was nothing to judge")
	}
	if j.v.Result == "" {
		j.v.Result = Valid
	}
	j.v.Summary = fmt.Sprintf(format, args...)
	return j.v
}

// seconds words a span of nanoseconds.
func seconds(ns int64) string { return fmt.Sprintf("%.3f s", float64(ns)/1e9) }
