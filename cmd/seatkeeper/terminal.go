package main

import (
	"io"
	"os"
)

// isTerminal says whether w is a terminal (a character device, to be exact; the
// difference is /dev/null, where escape codes do no harm).
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
