package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of a bundle, so that it can be sent by mail and never fills a disk.
const (
	maxBundlePart = 16 << 20
	maxBundle     = 128 << 20
)

// bundle is what is collected for those who help: files by name, and what could not be had.
type bundle struct {
	mu     sync.Mutex
	files  map[string][]byte
	size   int
	errors []string
}

// bundleManifest is the first file of a bundle.
type bundleManifest struct {
	// Made is when, RFC 3339; By is the version that made it.
	Made  string       `json:"made"`
	By    string       `json:"by"`
	From  string       `json:"from"`
	Nodes []string     `json:"nodes"`
	Files []bundleFile `json:"files"`
	// Errors are what could not be collected, and why.
	Errors []string `json:"errors"`
}

type bundleFile struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

func newBundle() *bundle { return &bundle{files: map[string][]byte{}} }

// add keeps a file if there is room for it.
func (b *bundle) add(name string, data []byte) {
	if !isProfile(name) {
		data = scrub(data)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(data) > maxBundlePart || b.size+len(data) > maxBundle {
		b.errors = append(b.errors, fmt.Sprintf("%s: left out, it has %d bytes", name, len(data)))
		return
	}
	b.files[name] = data
	b.size += len(data)
}

func (b *bundle) addJSON(name string, v any) {
	data, err := marshalJSON(v)
	if err != nil {
		b.missing(name, err)
		return
	}
	var out bytes.Buffer
	if json.Indent(&out, data, "", "  ") == nil {
		data = append(out.Bytes(), '\n')
	}
	b.add(name, data)
}

// missing notes what could not be had; a bundle of a broken cluster is what it is for.
func (b *bundle) missing(name string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors = append(b.errors, name+": "+string(scrub([]byte(oneLine(err.Error())))))
}

// write writes the archive: manifest, checksums as sha256sum -c reads them, files.
func (b *bundle) write(w io.Writer, folder string, nodes []string, now time.Time) error {
	m := bundleManifest{Made: now.UTC().Format(time.RFC3339), By: buildVersion(), From: osHost(), Nodes: nodes, Errors: append([]string{}, b.errors...)}
	slices.Sort(m.Errors)
	var sums strings.Builder
	for _, name := range sortedKeys(b.files) {
		sum := sha256.Sum256(b.files[name])
		m.Files = append(m.Files, bundleFile{name, len(b.files[name]), hex.EncodeToString(sum[:])})
		fmt.Fprintf(&sums, "%x  %s\n", sum, name)
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	put := func(name string, data []byte) error {
		h := &tar.Header{Name: folder + "/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: now, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	}
	if err := put("manifest.json", append(manifest, '\n')); err != nil {
		return err
	}
	if err := put("SHA256SUMS", []byte(sums.String())); err != nil {
		return err
	}
	for _, name := range sortedKeys(b.files) {
		if err := put(name, b.files[name]); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

func isProfile(name string) bool { return strings.HasSuffix(name, ".pb.gz") }

// secretShapes are what a secret of ours, or one that people paste into places, looks like.
// Nothing that goes into a bundle should have one; this is the second lock on that door.
var secretShapes = []*regexp.Regexp{
	regexp.MustCompile(`skt_[0-9A-Za-z_-]{8,}`), // access tokens
	regexp.MustCompile(`(?i)bearer\s+[0-9A-Za-z._~+/=-]{8,}`),
	regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`),
	regexp.MustCompile(`PRIVATE\+KEY\+[^\s"]+`), // signed-note signer keys
	regexp.MustCompile(`(?i)("?(?:secret|password|passwd|session_secret)"?\s*[:=]\s*"?)[^\s",}]{8,}`),
}

// scrub takes what looks like a secret out of a text.
func scrub(text []byte) []byte {
	for i, shape := range secretShapes {
		with := "(removed)"
		if i == len(secretShapes)-1 {
			with = "${1}(removed)"
		}
		text = shape.ReplaceAll(text, []byte(with))
	}
	return text
}
