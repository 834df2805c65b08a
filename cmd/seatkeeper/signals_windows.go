package main

import (
	"os"
	"syscall"
)

// Windows has no signals but Ctrl-C and Ctrl-Break, which reach every process of
// the console by themselves.
var (
	stopSignals               = []os.Signal{os.Interrupt, syscall.SIGTERM}
	reloadSignals             = []os.Signal{}
	passedSignals             = []os.Signal{os.Interrupt}
	terminateSignal os.Signal = os.Kill
)

func fromTerminal(os.Signal) bool { return true }

func signalOf(*os.ProcessState) (int, bool) { return 0, false }

func endsProcess(os.Signal) bool { return true }

// signalNumber is that of SIGINT: a console sends nothing else.
func signalNumber(os.Signal) int { return 2 }
