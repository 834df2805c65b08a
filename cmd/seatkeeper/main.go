// Command seatkeeper is the whole of Seatkeeper in one binary: the server, the
// operator's and the end user's commands, and a cluster for trying things.
//
// Every command is a method of app, which holds the process's input, outputs and
// environment; main only hands those over, so that tests run commands as functions.
package main

import (
	"context"
	"os"
)

func main() {
	reloads := reloadsFromTheStart(os.Args[1:])
	a := &app{reloads: reloads, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookupEnv: os.LookupEnv, beforeServing: coarseTimers}
	os.Exit(a.main(context.Background(), lmArgs(os.Args)))
}
