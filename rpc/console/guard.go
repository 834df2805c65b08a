package console

import (
	"errors"
	"net/http"
)

// Header is what the page sends with every call. A form or an image of a foreign page
// cannot send it, and a foreign script may not without a CORS answer, which no node gives.
const Header = "X-Seatkeeper-Console"

// origins is the check of the standard library: Sec-Fetch-Site, or else Origin against
// Host. Requests with neither do not come from a browser of today.
var origins = http.NewCrossOriginProtection()

// ErrForeign is returned by CheckOrigin for a change that a foreign page asks for.
var ErrForeign = errors.New("a page of another site cannot change anything here")

// CheckOrigin returns ErrForeign if r would change something and a browser sends it for
// another page than the node's own. It lets all others pass: curl, the SDK, other nodes.
func CheckOrigin(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if origins.Check(r) != nil {
		return ErrForeign
	}
	browser := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != ""
	if browser && r.Header.Get(Header) == "" {
		return ErrForeign
	}
	return nil
}
