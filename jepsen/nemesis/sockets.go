//go:build linux

package nemesis

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

// abandon drops a connection so that nothing of it is said again: with lingering off
// the kernel forgets it after one reset, which the cut swallows.
func abandon(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// established counts the API connections from an address that a node's kernel believes in.
func established(n *node.Node, from netip.Addr) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", n.PID()))
	if err != nil {
		return 0, err
	}
	more, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp6", n.PID()))
	a := from.As4()
	peer := fmt.Sprintf("%08X:", binary.LittleEndian.Uint32(a[:]))
	local := fmt.Sprintf(":%04X", node.APIPort)
	const stateEstablished = "01"
	count := 0
	for line := range strings.Lines(string(data) + string(more)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], local) && strings.Contains(f[2], peer) && f[3] == stateEstablished {
			count++
		}
	}
	return count, nil
}
