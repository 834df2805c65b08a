package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// inImage is all that the image holds: kind, mode and owner. No shell, no loader, no other
// program, nothing that a setuid bit could help.
var inImage = map[string]string{
	"etc/": "0755 0:0", "etc/group": "0644 0:0", "etc/passwd": "0644 0:0", "etc/seatkeeper/": "0755 0:0",
	"tmp/": "1777 0:0", "usr/": "0755 0:0", "usr/bin/": "0755 0:0", "usr/bin/seatkeeper": "0755 0:0",
	"var/": "0755 0:0", "var/lib/": "0755 0:0", "var/lib/seatkeeper/": "0700 65532:65532",
}

func TestImageHoldsTheseFilesAndNoOthers(t *testing.T) {
	img, err := build([]byte("the program"), "arm64", "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	files := mutate.Extract(img)
	defer files.Close()
	got := map[string]string{}
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		switch h.Typeflag {
		case tar.TypeDir:
			name += "/"
		case tar.TypeReg:
		default:
			t.Errorf("%s is neither a file nor a folder", h.Name)
		}
		got[name] = fmt.Sprintf("%04o %d:%d", h.Mode&0o7777, h.Uid, h.Gid)
		if !h.ModTime.Equal(epoch) {
			t.Errorf("%s is of %v: builds differ", h.Name, h.ModTime)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inImage)) {
		if got[name] != inImage[name] {
			t.Errorf("%s is %q, want %q", name, got[name], inImage[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("the image holds more: %v", got)
	}
}

// How the image is run is said in its documents, the chart and the compose file.
func TestImageIsRunAsItsDocumentsSay(t *testing.T) {
	img, err := build([]byte("the program"), "arm64", "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	f, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := f.Config
	got := fmt.Sprint(f.OS, " ", f.Architecture, " ", c.User, " ", c.Entrypoint, c.Cmd, c.Env, slices.Sorted(maps.Keys(c.ExposedPorts)),
		slices.Sorted(maps.Keys(c.Volumes)), c.StopSignal, " ", c.Healthcheck.Test, " ", c.Labels["org.opencontainers.image.version"])
	want := "linux arm64 65532:65532 [/usr/bin/seatkeeper] [server --config /etc/seatkeeper/seatkeeper.yaml] [PATH=/usr/bin] " +
		"[7800/tcp 7801/tcp 7802/tcp 7802/udp] [/var/lib/seatkeeper]SIGTERM [CMD /usr/bin/seatkeeper health --config /etc/seatkeeper/seatkeeper.yaml] v1.2.3"
	if got != want {
		t.Errorf("it is run as\n%s\nwant\n%s", got, want)
	}
	if !f.Created.Equal(epoch) {
		t.Errorf("it is of %v: builds differ", f.Created)
	}
}
