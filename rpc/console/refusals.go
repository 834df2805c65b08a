package console

import (
	"net/http"
	"strconv"
)

// StatusHeader has the status of what was refused to the page.
const StatusHeader = "X-Seatkeeper-Status"

// Refusals has next refuse what the page asks for (its Header tells) by an answer of 200
// whose StatusHeader is the status, with the same body. A browser writes every answer of 400 and
// more into its console by itself: of a token that has ended, and of each election. There
// only stands what is wrong with the page. All others get the status itself.
func Refusals(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(Header) != "" {
			w = &refusals{w}
		}
		next.ServeHTTP(w, r)
	})
}

type refusals struct{ http.ResponseWriter }

func (w *refusals) WriteHeader(code int) {
	if code >= http.StatusBadRequest {
		w.Header().Set(StatusHeader, strconv.Itoa(code))
		w.Header().Set("Cache-Control", "no-store") // an answer of 200 could be kept
		code = http.StatusOK
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *refusals) Unwrap() http.ResponseWriter { return w.ResponseWriter }
