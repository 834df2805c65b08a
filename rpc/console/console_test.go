package console

import (
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestFilesAreServedWithTheirTypeAndUnderThePolicy(t *testing.T) {
	c := New(http.NotFoundHandler(), nil)
	for path, kind := range map[string]string{"/ui/": "text/html", "/ui/app.js": "text/javascript", "/ui/style.css": "text/css", "/ui/icon.svg": "image/svg+xml"} {
		w := get(t, c, path)
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Body.Len() == 0 {
			t.Errorf("%s: %d %s, %d bytes", path, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if again := get(t, c, path, "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s again: %d, want 304", path, again.Code)
		}
	}
	for _, path := range []string{"/ui/", "/ui/no-such", "/ui/../secret", "/ui/assets/app.js"} {
		w := get(t, c, path)
		if path != "/ui/" && w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
				"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'",
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		} {
			if !strings.HasPrefix(w.Header().Get(name), want) {
				t.Errorf("%s: %s is %q", path, name, w.Header().Get(name))
			}
		}
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/ui/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, want 405", w.Code)
	}
}

// assets calls each with every embedded file.
func assets(t *testing.T, each func(name, text string)) {
	t.Helper()
	n := 0
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(name)
		each(name, string(data))
		n++
		return err
	})
	if err != nil || n < 10 {
		t.Fatalf("%d files: %v", n, err)
	}
}

// markup turns a string into elements or code; style in markup is refused by the policy.
var markup = regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|\beval\(|new Function|srcdoc|javascript:|\son[a-z]+="|\sstyle="|<style|<script>`)

func TestNoFileTurnsTextIntoMarkup(t *testing.T) {
	assets(t, func(name, text string) {
		if at := markup.FindStringIndex(text); at != nil {
			t.Errorf("%s: %q: build elements and set textContent", name, text[max(0, at[0]-20):min(len(text), at[1]+20)])
		}
	})
}

func TestNothingForeignIsLoaded(t *testing.T) {
	foreign := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]`)
	assets(t, func(name, text string) {
		for _, found := range foreign.FindAllString(text, -1) {
			if found != "http://www.w" { // the name of SVG, which is not loaded
				t.Errorf("%s names %s", name, found)
			}
		}
	})
}

// Every text colour must be readable on every ground it stands on: WCAG 2 asks for 4.5:1.
func TestColoursAreReadableInBothModes(t *testing.T) {
	data, err := embedded.ReadFile("assets/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(data), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark mode")
	}
	for mode, text := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{3,6})`).FindAllStringSubmatch(text, -1) {
			if _, again := colours[m[1]]; !again {
				colours[m[1]] = luminance(t, m[2])
			}
		}
		for _, pair := range [][2]string{{"ink", "paper"}, {"ink", "ground"}, {"ink", "hover"}, {"dim", "paper"}, {"dim", "ground"}, {"dim", "hover"},
			{"accent", "paper"}, {"accent", "hover"}, {"ok", "paper"}, {"warn", "paper"}, {"warn", "hover"}, {"bad", "paper"}, {"bad", "hover"}, {"bad", "bad-soft"}, {"warn", "warn-soft"}, {"dim", "fill-soft"}} {
			a, b := colours[pair[0]], colours[pair[1]]
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 || math.IsNaN(ratio) {
				t.Errorf("%s: --%s on --%s has a contrast of %.2f, want 4.5", mode, pair[0], pair[1], ratio)
			}
		}
	}
}

// luminance is WCAG's relative luminance of a colour.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	v, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(shift int) float64 {
		c := float64(v>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}

func TestChangesAreTakenFromOurOwnPageOnly(t *testing.T) {
	for _, c := range []struct {
		name, method string
		headers      map[string]string
		refused      bool
	}{
		{"curl", "POST", nil, false},
		{"our page", "POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://node:7800", Header: "1"}, false},
		{"our page in an old browser", "POST", map[string]string{"Origin": "http://node:7800", Header: "1"}, false},
		{"a form on our origin", "POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		{"a foreign form", "POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, true},
		{"a sibling's script", "POST", map[string]string{"Sec-Fetch-Site": "same-site", Header: "1"}, true},
		{"a foreign origin, old browser", "POST", map[string]string{"Origin": "https://evil.example", Header: "1"}, true},
		{"a sandboxed frame", "POST", map[string]string{"Origin": "null", Header: "1"}, true},
		{"a foreign DELETE", "DELETE", map[string]string{"Sec-Fetch-Site": "cross-site", Header: "1"}, true},
		{"a link from elsewhere", "GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
	} {
		r := httptest.NewRequest(c.method, "http://node:7800/v1/kill", nil)
		for k, v := range c.headers {
			r.Header.Set(k, v)
		}
		if got := CheckOrigin(r) != nil; got != c.refused {
			t.Errorf("%s: refused %v, want %v", c.name, got, c.refused)
		}
	}
}
