package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestOnlyThePageIsToldOfARefusalByAHeader(t *testing.T) {
	for _, c := range []struct {
		name, method, mark string
		code               int
		want               int
		told               string
	}{
		{"curl", "GET", "", 503, 503, ""},
		{"the page", "GET", "1", 503, 200, "503"},
		{"the page without a token", "GET", "1", 401, 200, "401"},
		{"the page, and all is well", "GET", "1", 200, 200, ""},
		{"the page, and nothing is new", "GET", "1", 304, 304, ""},
		{"a change by the page", "POST", "1", 503, 200, "503"},
		{"a change by curl", "POST", "", 403, 403, ""},
	} {
		api := Refusals(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.code)
			fmt.Fprint(w, "why")
		}))
		r := httptest.NewRequest(c.method, "http://node:7800/v1/leases", nil)
		if c.mark != "" {
			r.Header.Set(Header, c.mark)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != c.want || w.Header().Get(StatusHeader) != c.told || w.Body.String() != "why" {
			t.Errorf("%s: %d, %q, %q, want %d and %q", c.name, w.Code, w.Header().Get(StatusHeader), w.Body, c.want, c.told)
		}
		if c.told != "" && w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the refusal may be kept", c.name)
		}
	}
}
