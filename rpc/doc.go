// Package rpc is the API of a node: it decodes a request, asks who is calling,
// admits or refuses it by load, hands it to the node (or sends the caller to the
// leader) and encodes the answer. It holds no rule about seats: an "if" about seats
// belongs in package lease.
//
// One port serves everything. The first bytes of a connection decide: the HTTP/2
// preface is native gRPC, an HTTP/1 method is JSON (and health, metrics), and
// anything else closes that connection only. A JSON call is turned into the same
// message that gRPC carries and passes the same interceptor, in this process and
// without a socket between, so no check can be passed by choosing the other door.
//
// Its words:
//
//	refusal    a definite "no" with a reason; the table in errors.go says what each
//	           reason looks like in HTTP, gRPC and FlexNet numbers
//	redirect   the answer of a node that does not lead: 307 with Location for JSON,
//	           UNAVAILABLE with a NotLeader detail for gRPC
//	forward    what the node does instead when the caller asks for it (header
//	           X-Seatkeeper-Forward: 1): it calls the leader itself, one hop only
//	stale      answered from this node's own state, without asking the leader
//	ticket     the right of one request to be worked on; a request that waits for
//	           seats gives its ticket back while it sleeps
//
// Outcomes stay apart, as they leave the cluster: done; refused (final or not); not
// applied (reason not_leader or overloaded: safe to send again anywhere); unknown
// (reason unknown_outcome: send again with the same seq).
//
// Its clock assumption: none that matters. The process clock times out requests and
// bounds waiting; it never reaches a lease.
package rpc
