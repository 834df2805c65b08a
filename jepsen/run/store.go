package run

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
	page "github.com/seatkeeper/seatkeeper/jepsen/report"
)

// Names of the files of a run.
const (
	testFile    = "test.edn"
	historyFile = "history.edn"
	nemesisFile = "nemesis.edn"
	resultsFile = "results.edn"
)

func auditFile(node string) string { return "audit-" + node + ".edn" }

// writeEDN writes one value to a file of the run.
func writeEDN(dir, name string, v any) error {
	return os.WriteFile(filepath.Join(dir, name), append(history.MarshalEDN(v), '\n'), 0o644)
}

// writeLines writes one value a line.
func writeLines[T any](dir, name string, list []T) error {
	var b bytes.Buffer
	for _, v := range list {
		b.Write(append(history.MarshalEDN(v), '\n'))
	}
	return os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
}

func writeAudit(dir string, a *history.Audit) error {
	f, err := os.Create(filepath.Join(dir, auditFile(a.Node)))
	if err != nil {
		return err
	}
	return errors.Join(history.WriteAudit(f, a), f.Close())
}

// Judge judges a stored run, writes results.edn and returns the report. An error means
// that the files cannot be read.
func Judge(dir string) (*checker.Report, error) {
	r, err := load(dir)
	if err != nil {
		return nil, err
	}
	return judge(r, dir, nil)
}

// judge asks those checkers, or all.
func judge(r *checker.Run, dir string, only []string) (*checker.Report, error) {
	report := checker.Judge(r, checker.Options{Dir: dir, Only: only})
	return &report, errors.Join(writeEDN(dir, resultsFile, &report), page.WriteFile(dir, r, &report, page.Extra{}))
}

// load reads the files of a run.
func load(dir string) (*checker.Run, error) {
	data, err := os.ReadFile(filepath.Join(dir, testFile))
	if err != nil {
		return nil, err
	}
	var test checker.Test
	if err := history.UnmarshalEDN(data, &test); err != nil {
		return nil, fmt.Errorf("%s: %w", testFile, err)
	}
	h, err := os.Open(filepath.Join(dir, historyFile))
	if err != nil {
		return nil, err
	}
	defer h.Close()
	ops, err := history.Read(h)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", historyFile, err)
	}
	audits, err := readAudits(dir)
	if err != nil {
		return nil, err
	}
	return checker.NewRun(test, ops, audits)
}

func readAudits(dir string) ([]*history.Audit, error) {
	var audits []*history.Audit
	paths, err := filepath.Glob(filepath.Join(dir, auditFile("*")))
	for _, path := range paths {
		f, openErr := os.Open(path)
		if openErr != nil {
			return nil, openErr
		}
		node := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "audit-"), ".edn")
		a, readErr := history.ReadAudit(f, node)
		f.Close()
		if readErr != nil {
			return nil, fmt.Errorf("%s: %w", path, readErr)
		}
		audits = append(audits, a)
	}
	return audits, err
}

// freshDir makes the directory of a run; it must not be one that holds a run already.
func freshDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s holds a run already", dir)
	}
	return err
}
