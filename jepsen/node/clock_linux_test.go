package node

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestARateTakenOffLeavesNoStep(t *testing.T) {
	var r row
	r = r.next(1000e9, 0.5)
	if got := r.at(1000e9); got != 1000e9 {
		t.Errorf("begins with a step: %d", got)
	}
	if got := r.at(1010e9); got != 1015e9 {
		t.Errorf("after 10 s at +50 %%: %d", got)
	}
	r = r.next(1010e9, 0)
	if got := r.at(1010e9); got != 1015e9 {
		t.Errorf("the rate's end is a step: %d", got)
	}
	if got := r.at(1020e9); got != 1025e9 {
		t.Errorf("after the end: %d", got)
	}
}

// clockReader is set in the copy of this test that reads its clocks aloud.
const clockReader = "SEATKEEPER_TEST_READS_CLOCKS"

func TestMain(m *testing.M) {
	if os.Getenv(clockReader) == "" {
		os.Exit(m.Run())
	}
	began := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		now := time.Now()
		fmt.Println(now.UnixNano(), int64(now.Sub(began)))
	}
}

func TestBentClocksOfARunningProcess(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("clocks of another process can be bent on amd64 only: NOT tested here")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to write another process's memory: bending clocks was NOT tested")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clockReader+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	read := func() (wall, mono time.Duration) {
		t.Helper()
		fmt.Fprintln(in)
		if !lines.Scan() {
			t.Fatal("the process is gone")
		}
		f := strings.Fields(lines.Text())
		w, _ := strconv.ParseInt(f[0], 10, 64)
		m, _ := strconv.ParseInt(f[1], 10, 64)
		return time.Duration(w - time.Now().UnixNano()), time.Duration(m)
	}
	_, mono := read()
	id, err := ProcessOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Name: "n1", proc: &process{id: id}}
	if err := n.Bend(Clock{Jump: time.Hour}); err != nil {
		t.Fatal(err)
	}
	const slack = 2 * time.Second
	if off, m := read(); (off-time.Hour).Abs() > slack || m < mono || m > mono+slack {
		t.Errorf("after a jump of an hour the wall clock is off by %v, the monotonic one moved by %v", off, m-mono)
	}
	const rate = 1000
	if err := n.Bend(Clock{Rate: rate}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, from := read()
	for time.Since(began) < 20*time.Millisecond {
		runtime.Gosched()
	}
	_, to := read()
	if to-from < 10*time.Second {
		t.Errorf("at %d times the rate 20 ms were %v", rate, to-from)
	}
	if err := n.Bend(Clock{}); err != nil {
		t.Fatal(err)
	}
	if off, m := read(); off.Abs() > slack || m < to {
		t.Errorf("afterwards the wall clock is off by %v, the monotonic one went from %v to %v", off, to, m)
	}
}
