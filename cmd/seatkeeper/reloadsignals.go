package main

import (
	"net"
	"os"
	"os/signal"
	"slices"
)

// reloadsFromTheStart catches the signals to reload before anything else is done, if the
// arguments are those of a server or an agent: uncaught, SIGHUP ends a process. It keeps one
// that comes before the process can reload. nil for all other commands, which a terminal
// that is closed has to end.
func reloadsFromTheStart(args []string) chan os.Signal {
	if len(args) == 0 || args[0] != "server" && args[0] != "agent" || slices.Contains(args, "status") {
		return nil
	}
	caught := make(chan os.Signal, 1)
	notifyOf(caught, reloadSignals)
	return caught
}

// catchReloads returns where signals to reload come, and what ends that.
func (a *app) catchReloads() (caught chan os.Signal, stop func()) {
	caught = a.reloads
	if caught == nil {
		caught = make(chan os.Signal, 1)
	}
	notifyOf(caught, reloadSignals) // once more: coarseTimers may have ignored them
	return caught, func() { signal.Stop(caught) }
}

// notifyOf is signal.Notify, but no signals are none and not all.
func notifyOf(c chan<- os.Signal, signals []os.Signal) {
	if len(signals) > 0 {
		signal.Notify(c, signals...)
	}
}

// tellReady tells who started this process that it serves and takes signals, by systemd's
// protocol (Type=notify); where nobody wants to know it does nothing.
func (a *app) tellReady() error {
	socket, _ := a.lookupEnv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}
