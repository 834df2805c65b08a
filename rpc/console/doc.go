// Package console is the web dashboard of a node, at /ui/ on the API's port.
//
// It is a client like any other: the page reads the public JSON API of the node it came
// from and nothing else, and this package calls that API, too, as an http.Handler, with
// the headers of whoever looks. It knows nothing of what is behind it, so a role that may
// not read something by curl cannot see it here.
//
// Its words:
//
//	frame      what one look at the cluster showed: status, peers and the node's own name
//	feed       the frames for all viewers with the same credentials and tenant: one look a
//	           second serves them all, and none is made while nobody watches
//	viewer     one open page: a stream of Server-Sent Events at /ui/events
//
// To the page a refusal is an answer (Refusals): a browser's console is for mistakes.
//
// Any node serves it. Followers ask the leader (X-Seatkeeper-Forward: 1), so everything
// stays on one origin and no CORS is needed; without a leader the node says what it knows
// itself and that it may be old.
//
// Its one rule: what a user, a host or a licence file wrote is text. The page builds
// elements and sets textContent; a Content-Security-Policy with Trusted Types and a test
// keep it so. There is no build step and no foreign code: what is in assets is what runs.
//
// Its clock assumption: none. Times shown come from the API.
package console
