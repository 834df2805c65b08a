package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed assets
var embedded embed.FS

// Path is where the dashboard lives; it ends with a slash.
const Path = "/ui/"

// policy lets the page run its own scripts and styles, talk to its own node, and nothing
// else: not even a script that a hostile name would smuggle in.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'"

// Console serves the dashboard below Path.
type Console struct {
	files map[string]file
	hub   *hub
}

// file is one embedded file as it is sent.
type file struct {
	kind, tag string
	data      []byte
}

// New makes a Console that reads from api, the handler of the node's public API. Streams
// end when stopping is closed.
func New(api http.Handler, stopping <-chan struct{}) *Console {
	c := &Console{files: map[string]file{}, hub: newHub(api, stopping)}
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(name)
		sum := sha256.Sum256(data)
		c.files[path.Base(name)] = file{kindOf(name), `"` + hex.EncodeToString(sum[:8]) + `"`, data}
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("console: embedded files: %v", err)) // cannot happen: they are in the binary
	}
	return c
}

// kindOf does not ask the machine's table of types: a script must be one everywhere.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// ServeHTTP serves the page, its files and its events. Only GET and HEAD are allowed:
// what the page changes, it changes by the API.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET is allowed here", http.StatusMethodNotAllowed)
		return
	}
	name := r.URL.Path[min(len(Path), len(r.URL.Path)):]
	switch name {
	case "events":
		c.hub.serve(w, r)
		return
	case "":
		name = "index.html"
	}
	f, ok := c.files[name]
	if !ok {
		http.Error(w, "there is no such page; the dashboard is at "+Path, http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "no-cache") // asked for again each time: 304 unless the binary changed
	h.Set("ETag", f.tag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.data))
}

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
}
