//go:build !linux

package main

import (
	"fmt"
	"io"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
)

func command(_ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "jepsen: runs on Linux only: it needs network namespaces, mounts and control groups")
	return checker.ExitNotConclusive
}
