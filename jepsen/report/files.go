package report

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// fileName is what the page is called.
const fileName = "index.html"

const (
	// mostFiles bounds the list of files, deepest how far down it looks.
	mostFiles = 200
	deepest   = 3
)

// rawFile is a file of the run that a person may want to open.
type rawFile struct {
	Name, Link, What, Size string
	rank                   int
}

// filesOf lists what is in the run's directory. Keys and data files are left out.
func filesOf(dir string) []rawFile {
	var list []rawFile
	if dir == "" {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read is not listed
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return nil
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if strings.Count(rel, "/") >= deepest-1 || rel == "clients" || rel == "licences" {
				return filepath.SkipDir
			}
			return nil
		}
		what, rank := describe(rel)
		if what == "" || !d.Type().IsRegular() {
			return nil
		}
		size := ""
		if info, err := d.Info(); err == nil {
			size = bytesText(info.Size())
		}
		list = append(list, rawFile{rel, link(rel), what, size, rank})
		return nil
	})
	slices.SortStableFunc(list, func(a, b rawFile) int { return a.rank - b.rank })
	return list[:min(len(list), mostFiles)]
}

// link is a relative address that cannot be read as another scheme.
func link(rel string) string {
	parts := strings.Split(rel, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "./" + strings.Join(parts, "/")
}

// describe says what a file is; empty: not to be listed.
func describe(rel string) (what string, rank int) {
	base := path.Base(rel)
	if strings.HasPrefix(rel, "nodes/") {
		switch {
		case base == "log" || strings.HasSuffix(base, ".log"):
			return "what the node logged", 7
		case strings.HasPrefix(base, "config"):
			return "the node's configuration", 8
		case strings.HasSuffix(base, ".jsonl") || base == "audit.json":
			return "what the node told of itself, as it told it", 9
		}
		return "", 0
	}
	switch {
	case rel == fileName:
		return "", 0
	case base == "test.edn":
		return "seed, parameters, versions, pools, limits", 1
	case base == "results.edn":
		return "the verdicts", 2
	case base == "history.edn":
		return "every operation, one a line", 3
	case base == "nemesis.edn":
		return "the faults with their proofs, and changes of leader", 4
	case strings.HasPrefix(base, "audit-") && strings.HasSuffix(base, ".edn"):
		return "the log that the node applied", 5
	case strings.HasPrefix(base, "porcupine-") && strings.HasSuffix(base, ".html"):
		return "operations that cannot be put in order, drawn", 6
	case strings.HasSuffix(base, ".log") || strings.HasSuffix(base, ".edn") || strings.HasSuffix(base, ".html"):
		return "made by the run", 10
	}
	return "", 0
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
