package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManualPagesAreOfEveryCommandAndTheSameEachTime(t *testing.T) {
	page := func(dir, name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if code, _, stderr := run(t, map[string]string{"SOURCE_DATE_EPOCH": "1700000000"}, "man", dir); code != 0 {
			t.Fatal(stderr)
		}
	}
	pages, err := os.ReadDir(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if page(first, p.Name()) != page(second, p.Name()) {
			t.Errorf("%s differs between two runs", p.Name())
		}
	}
	for name, want := range map[string]string{"seatkeeper.1": "Nov 2023", "seatkeeper-server.1": "--config", "seatkeeper-tls-cert-create.1": "--host", "seatkeeper-lmutil.1": "lmutil"} {
		if text := page(first, name); !strings.Contains(strings.ReplaceAll(text, `\-`, "-"), want) {
			t.Errorf("%s says nothing of %q", name, want)
		}
	}
	if code, _, stderr := run(t, map[string]string{"SOURCE_DATE_EPOCH": "today"}, "man", first); code != exitUsage || !strings.Contains(stderr, "SOURCE_DATE_EPOCH") {
		t.Errorf("a date that is none: %d %s", code, stderr)
	}
}
