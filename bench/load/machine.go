package load

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Machine is what numbers depend on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory uint64 `json:"memory_bytes"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	// FileSystem holds the servers' data.
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
	// LoadBefore is the machine's load average when the run began: near 0 on a quiet one.
	LoadBefore string `json:"load_before,omitempty"`
}

// ThisMachine describes the machine; dir is where the servers write. What cannot be
// found out stays empty.
func ThisMachine(dir string) Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	m.Kernel, m.FileSystem, m.Memory = system(dir)
	m.CPU = procField("/proc/cpuinfo", "model name")
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(data)); len(f) > 0 {
			m.LoadBefore = f[0]
		}
	}
	return m
}

func procField(file, key string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// limitBytes is about what one small log entry comes to on disk and on the wire.
const limitBytes = 4096

// Fsync measures one write of a page and fsync in dir, over and over for d: the least
// that a durable answer costs.
func Fsync(ctx context.Context, dir string, d time.Duration) (Row, error) {
	f, err := os.Create(filepath.Join(dir, "fsync.bench"))
	if err != nil {
		return Row{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const pages = 256 // written before, so that the file does not grow
	page := make([]byte, limitBytes)
	for range pages {
		if _, err := f.Write(page); err != nil {
			return Row{}, err
		}
	}
	if err := f.Sync(); err != nil {
		return Row{}, err
	}
	s := NewSample()
	for i := 0; time.Since(s.began) < d && ctx.Err() == nil; i++ {
		page[0] = byte(i)
		t := time.Now()
		if _, err := f.WriteAt(page, int64(i%pages)*limitBytes); err != nil {
			return Row{}, err
		}
		if err := f.Sync(); err != nil {
			return Row{}, err
		}
		s.Note(time.Since(t))
	}
	return s.Row("fsync", 1), ctx.Err()
}

// RoundTrip measures a message of a small log entry over loopback TCP and an answer,
// for d: the least that one raft round trip costs.
func RoundTrip(ctx context.Context, d time.Duration) (Row, error) {
	const entry, reply = 256, 64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Row{}, err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, entry)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(buf[:reply]); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	buf := make([]byte, entry)
	s := NewSample()
	for time.Since(s.began) < d && ctx.Err() == nil {
		t := time.Now()
		if _, err := c.Write(buf); err != nil {
			return Row{}, err
		}
		if _, err := io.ReadFull(c, buf[:reply]); err != nil {
			return Row{}, err
		}
		s.Note(time.Since(t))
	}
	return s.Row("tcp round trip", 1), ctx.Err()
}
