// Command image writes the container image of a static seatkeeper binary as a tarball that
// docker load, podman load and skopeo take, without a container engine. The same binary
// and version give the same bytes. What is in it is said in deploy/image/Dockerfile, too,
// for those who build with one.
package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// uid is who the image runs as: the number that other images without root use, too.
const uid = 65532

// configFile is where the node's config is to be mounted.
const configFile = "/etc/seatkeeper/seatkeeper.yaml"

// epoch is the date of everything in the image, so that building it twice is the same.
var epoch = time.Unix(0, 0).UTC()

func main() {
	binary := flag.String("binary", "", "the static binary")
	arch := flag.String("arch", "", "amd64 or arm64")
	version := flag.String("version", "", "the image's tag")
	out := flag.String("out", "", "the tarball to write")
	flag.Parse()
	if err := write(*binary, *arch, *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(binary, arch, version, out string) error {
	tag, err := name.NewTag("seatkeeper:"+version, name.WeakValidation)
	if err != nil {
		return err
	}
	program, err := static(binary, arch)
	if err != nil {
		return err
	}
	img, err := build(program, arch, version)
	if err != nil {
		return err
	}
	tmp := out + ".tmp"
	if err := tarball.WriteToFile(tmp, tag, img); err != nil {
		return err
	}
	if err := os.Rename(tmp, out); err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s %s\n", out, tag.String(), digest)
	return nil
}

// static reads the binary and refuses one that needs a loader: there is none in the image.
func static(path, arch string) ([]byte, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return nil, fmt.Errorf("%s is for %v and not for %s", path, f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return nil, fmt.Errorf("%s is not static: build it with CGO_ENABLED=0", path)
		}
	}
	return program, nil
}

// build makes the image: one layer, and how it is run.
func build(program []byte, arch, version string) (v1.Image, error) {
	files, err := layer(program)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, config(img, arch, version))
}

func config(img v1.Image, arch, version string) *v1.ConfigFile {
	c, err := img.ConfigFile()
	if err != nil {
		panic(err) // of an image in memory
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Created = "linux", arch, v1.Time{Time: epoch}
	c.History = []v1.History{{Created: v1.Time{Time: epoch}, CreatedBy: "make image"}}
	c.Config = v1.Config{
		User:         fmt.Sprintf("%d:%d", uid, uid),
		Entrypoint:   []string{"/usr/bin/seatkeeper"},
		Cmd:          []string{"server", "--config", configFile},
		Env:          []string{"PATH=/usr/bin"},
		ExposedPorts: map[string]struct{}{"7800/tcp": {}, "7801/tcp": {}, "7802/tcp": {}, "7802/udp": {}},
		Volumes:      map[string]struct{}{"/var/lib/seatkeeper": {}},
		StopSignal:   "SIGTERM",
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/usr/bin/seatkeeper", "health", "--config", configFile},
			Interval: 10 * time.Second, Timeout: 5 * time.Second, StartPeriod: time.Minute, Retries: 3},
		Labels: map[string]string{
			"org.opencontainers.image.title":   "seatkeeper",
			"org.opencontainers.image.version": version,
			"org.opencontainers.image.source":  "https://github.com/seatkeeper/seatkeeper",
		},
	}
	return c
}

// layer is the file system: the binary, its user, and folders that it may write to.
func layer(program []byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	var errs []error
	dir := func(path string, mode int64, owner int) {
		errs = append(errs, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: mode, Uid: owner, Gid: owner, ModTime: epoch, Format: tar.FormatPAX}))
	}
	file := func(path string, mode int64, content []byte) {
		errs = append(errs, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: mode, Size: int64(len(content)), ModTime: epoch, Format: tar.FormatPAX}))
		_, err := w.Write(content)
		errs = append(errs, err)
	}
	dir("etc", 0o755, 0)
	file("etc/group", 0o644, fmt.Appendf(nil, "seatkeeper:x:%d:\n", uid))
	file("etc/passwd", 0o644, fmt.Appendf(nil, "seatkeeper:x:%d:%d::/var/lib/seatkeeper:/sbin/nologin\n", uid, uid))
	dir("etc/seatkeeper", 0o755, 0)
	dir("tmp", 0o1777, 0)
	dir("usr", 0o755, 0)
	dir("usr/bin", 0o755, 0)
	file("usr/bin/seatkeeper", 0o755, program)
	dir("var", 0o755, 0)
	dir("var/lib", 0o755, 0)
	// A new volume takes over owner and mode from here.
	dir("var/lib/seatkeeper", 0o700, uid)
	errs = append(errs, w.Close())
	return out.Bytes(), errors.Join(errs...)
}
