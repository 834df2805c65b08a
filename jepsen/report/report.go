package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// Extra is what the page shows beside the run and its verdicts. All of it may be missing.
type Extra struct {
	// Dir is the run's directory: nemesis.edn is read from it and its files are listed.
	Dir string
	// Repeat is the command that makes the same run again; empty: guessed from the test.
	Repeat string
	// Parameters are shown in this order beside those of the test.
	Parameters []Parameter
	// Problem says what went wrong with the run itself, as in "the history is malformed".
	Problem string
}

// Parameter is one setting of a run.
type Parameter struct{ Name, Value string }

// WriteFile writes the page of a run into its directory as index.html. It replaces the
// page that was there only once the new one is whole.
func WriteFile(dir string, r *checker.Run, rep *checker.Report, x Extra) error {
	x.Dir = dir
	var b bytes.Buffer
	if err := Write(&b, r, rep, x); err != nil {
		return err
	}
	name := filepath.Join(dir, fileName)
	if err := os.WriteFile(name+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// Write writes the page of a run. A run without operations, audits or verdicts has a
// page, too, and so has one with Ops alone, whose history is malformed.
func Write(w io.Writer, r *checker.Run, rep *checker.Report, x Extra) error {
	if r == nil {
		r = &checker.Run{}
	}
	if rep == nil {
		rep = &checker.Report{Result: checker.Unknown}
	}
	if r.End == 0 && len(r.Ops) > 0 {
		c := *r
		for i := range c.Ops {
			c.End = max(c.End, c.Ops[i].Time)
		}
		r = &c
	}
	notes, err := readNemesis(x.Dir)
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, makeView(r, rep, x, notes))
}

// nemesisNotes are the lines of nemesis.edn that the history does not have.
type nemesisNotes struct {
	changes []change
	notes   []noteLine
}

type noteLine struct {
	at   int64
	text string
}

// mostNotes bounds the notes that are shown.
const mostNotes = 200

// readNemesis reads what is known beside the history; a missing file is no error.
func readNemesis(dir string) (n nemesisNotes, err error) {
	if dir == "" {
		return n, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "nemesis.edn"))
	if os.IsNotExist(err) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e struct {
			At     int64  `edn:"at"`
			Leader string `edn:"leader"`
			Term   uint64 `edn:"term"`
			Note   string `edn:"note"`
		}
		if err := history.UnmarshalEDN(line, &e); err != nil {
			return n, fmt.Errorf("nemesis.edn, line %d: %w", i+1, err)
		}
		switch {
		case e.Leader != "":
			n.changes = append(n.changes, change{e.At, e.Leader, e.Term})
		case e.Note != "" && len(n.notes) < mostNotes:
			n.notes = append(n.notes, noteLine{e.At, e.Note})
		}
	}
	return n, nil
}
