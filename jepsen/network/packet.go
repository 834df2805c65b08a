package network

import (
	"encoding/binary"
	"net/netip"
)

// MTU is the largest packet a port carries, in bytes.
const MTU = 1500

// ipv4HeaderLen is the length of a header without options.
const ipv4HeaderLen = 20

// addresses reads source and destination of an IPv4 packet; ok is false for anything
// else, which the switch drops (IPv6 router solicitations, mostly).
func addresses(packet []byte) (src, dst netip.Addr, ok bool) {
	if len(packet) < ipv4HeaderLen || packet[0]>>4 != 4 {
		return src, dst, false
	}
	if n := int(binary.BigEndian.Uint16(packet[2:4])); n < ipv4HeaderLen || n > len(packet) {
		return src, dst, false
	}
	return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20])), true
}
