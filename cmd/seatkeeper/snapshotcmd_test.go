package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBarShowsHowFarATransferIs(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		want        string
	}{
		{0, 0, "sending 0 bytes"},
		{20 << 20, 0, "sending 20 MiB"},
		{0, 300, "sending [                              ]   0% of 300 bytes"},
		{150, 300, "sending [===============               ]  50% of 300 bytes"},
		{64 << 10, 20 << 10, "sending [==============================] 100% of 20 KiB"}, // a file that grew
	} {
		if got := (&bar{what: "sending", done: c.done, total: c.total}).text(); got != c.want {
			t.Errorf("%d of %d: %q, want %q", c.done, c.total, got, c.want)
		}
	}
	var out bytes.Buffer
	b := &bar{w: &out, what: "saving"}
	for range 1000 {
		_, _ = b.Write(make([]byte, 1000))
	}
	b.end()
	if n := strings.Count(out.String(), "\r"); n < 2 || n > 1+int(time.Minute/transferRedraw) {
		t.Errorf("drawn %d times", n)
	}
	if _, err := (&bar{}).Write([]byte("x")); err != nil {
		t.Error("without a terminal it shows nothing and goes on")
	}
}

func TestFailedSaveLeavesNothing(t *testing.T) {
	inFull(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "b")
	code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": "127.0.0.1:1"}, "snapshot", "save", file)
	if code != exitUnreachable || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%d, %s", code, stderr)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
