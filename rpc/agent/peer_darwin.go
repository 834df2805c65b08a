package agent

import (
	"net"

	"golang.org/x/sys/unix"
)

// localPeerPID is LOCAL_PEERPID of sys/un.h.
const localPeerPID = 0x2

// peerOf asks the kernel who connected.
func peerOf(conn *net.UnixConn) (caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var cred *unix.Xucred
	var failed error
	pid := 0
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		pid, _ = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, localPeerPID)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return caller{}, err
	}
	c := caller{uid: int(cred.Uid)}
	if p, _, err := identify(pid); err == nil && pid > 0 {
		c.process, c.inner = p, p.PID
	}
	return c, nil
}
