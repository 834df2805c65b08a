package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// On a machine with one CPU a server runs as two processors' worth of Go, so that a wait for
// the disk stops nobody; what the operator says counts more.
func TestAServerOnOneCPUWaitsForItsDiskAlone(t *testing.T) {
	t.Parallel()
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 2, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.stop() })
	d.nodes[1].env = append(d.nodes[1].env, "GOMAXPROCS=1")
	for i, want := range []int{leastProcessors, 1} {
		n := d.nodes[i]
		n.cpus = []int{0}
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, n.Name+" to run on as many processors as it should", func() error {
			resp, err := http.Get("http://" + n.API + "/metrics")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if line := fmt.Sprintf("\ngo_sched_gomaxprocs_threads %d\n", want); err == nil && !strings.Contains(string(text), line) {
				err = fmt.Errorf("its metrics do not say %q", line)
			}
			return err
		})
	}
}
