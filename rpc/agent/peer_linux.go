package agent

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who connected.
func peerOf(conn *net.UnixConn) (caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var cred *unix.Ucred
	var failed error
	pidfd := -1
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			pidfd = n // kernels from 6.5 on: names the process even when its pid was used again
		}
	})
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	if err != nil {
		return caller{}, err
	}
	if failed != nil {
		return caller{}, os.NewSyscallError("getsockopt", failed)
	}
	c := caller{uid: int(cred.Uid)}
	if cred.Pid <= 0 {
		return c, nil // of another pid namespace
	}
	p, _, err := identify(int(cred.Pid))
	if err != nil || pidfd >= 0 && hasEnded(pidfd) {
		return c, nil // it connected and ended: there is nothing to watch
	}
	c.process = p
	c.inner = p.PID
	if _, own := innerPID(os.Getpid()); own > 0 {
		if inner, depth := innerPID(p.PID); depth > own {
			c.inner = inner
		}
	}
	return c, nil
}

func hasEnded(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}
