package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxMetrics bounds what is read of one /metrics page; a real one has some 100 KiB.
const maxMetrics = 8 << 20

// samples are the numbers of one /metrics page, by name with labels as they stand.
type samples map[string]float64

// scrape reads the metrics of one node.
func (t *Target) scrape(ctx context.Context, address string) (samples, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	if t.Token != "" {
		req.Header.Set("Authorization", "Bearer "+t.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s/metrics answered %s", address, resp.Status)
	}
	return parseMetrics(io.LimitReader(resp.Body, maxMetrics))
}

// parseMetrics reads the Prometheus text format as far as single numbers go.
func parseMetrics(r io.Reader) (samples, error) {
	s := samples{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
			s[line[:cut]] = v
		}
	}
	return s, lines.Err()
}

// usage measures how much CPU a node takes between two looks, in cores.
type usage struct {
	t       *Target
	address string
	began   time.Time
	cpu     float64
}

func (t *Target) usage(ctx context.Context, address string) (*usage, error) {
	s, err := t.scrape(ctx, address)
	return &usage{t, address, time.Now(), s[metricCPU]}, err
}

// cores is what the node took on average since usage was called.
func (u *usage) cores(ctx context.Context) (float64, error) {
	s, err := u.t.scrape(ctx, u.address)
	if err != nil {
		return 0, err
	}
	return (s[metricCPU] - u.cpu) / time.Since(u.began).Seconds(), nil
}

// What of /metrics is read here.
const (
	metricCPU       = "process_cpu_seconds_total"
	metricRSS       = "process_resident_memory_bytes"
	metricNextGC    = "go_memstats_next_gc_bytes"
	metricGOGC      = "go_gc_gogc_percent"
	metricLastGC    = "go_memstats_last_gc_time_seconds"
	metricDiskAlarm = "seatkeeper_cluster_disk_alarm"
	metricDiskFree  = "seatkeeper_cluster_disk_free_ratio"
	metricHeap      = "go_memstats_heap_alloc_bytes"
	metricRefused   = "seatkeeper_rpc_refused_total"
	metricRenewed   = "seatkeeper_rpc_heartbeats_total"
	// metricOverloaded has the labels class and limit.
	metricOverloaded = "seatkeeper_rpc_overloaded_total"
	metricSnapCount  = "seatkeeper_raft_fsm_snapshot_count"
	metricSnapSum    = "seatkeeper_raft_fsm_snapshot_sum" // milliseconds
	metricBatchCount = "seatkeeper_cluster_batch_commands_count"
	metricBatchSum   = "seatkeeper_cluster_batch_commands_sum"
)

// liveHeap is what the last garbage collection left, in bytes: the collector sets its
// next goal from that.
func (s samples) liveHeap() float64 {
	gogc := s[metricGOGC]
	if gogc <= 0 {
		return s[metricHeap]
	}
	return s[metricNextGC] * 100 / (100 + gogc)
}
