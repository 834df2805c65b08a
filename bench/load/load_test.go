package load

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// worker sleeps as it is told.
type worker struct {
	do     func(ctx context.Context, m *Meter) error
	closed *atomic.Int64
}

func (w *worker) Do(ctx context.Context, m *Meter) error { return w.do(ctx, m) }
func (w *worker) Close(context.Context)                  { w.closed.Add(1) }

// runStep runs a step on virtual time.
func runStep(t *testing.T, s Step, do func(ctx context.Context, m *Meter) error) (rows []Row, closed int64, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		rows, err = Run(t.Context(), s, func(context.Context, int) (Worker, error) { return &worker{do, &n}, nil })
		closed = n.Load()
	})
	return rows, closed, err
}

func TestClosedLoopSendsWhenAnswered(t *testing.T) {
	rows, closed, err := runStep(t, Step{Name: "x", Clients: 4, Warmup: time.Second, Duration: 10 * time.Second}, func(context.Context, *Meter) error {
		time.Sleep(100 * time.Millisecond)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// 4 clients, ten a second each; one at either end may fall on the border.
	if n := rows[0].Count; n < 396 || n > 404 {
		t.Errorf("%d operations counted, want about 400: the second of warm-up must not be in them", n)
	}
	if p := rows[0].Latency.P50; p < 99_900 || p > 100_100 {
		t.Errorf("median %v µs, want 100000", p)
	}
	if closed != 4 {
		t.Errorf("%d workers closed, want 4", closed)
	}
}

func TestOpenLoopCountsFromWhenAnOperationShouldHaveBegun(t *testing.T) {
	// One stall of two seconds in a load of 100 a second: in truth two hundred
	// operations waited for it, one second on average.
	var stalled bool
	do := func(_ context.Context, m *Meter) error {
		if !stalled && time.Since(m.Start()) == 0 && m.Start().Nanosecond() > 0 {
			stalled = true
			time.Sleep(2 * time.Second)
		}
		time.Sleep(time.Millisecond)
		return nil
	}
	rows, _, err := runStep(t, Step{Name: "x", Clients: 1, Duration: 10 * time.Second, Rate: 100}, do)
	if err != nil {
		t.Fatal(err)
	}
	l := rows[0].Latency
	if l.P50 > 2_000 || l.P90 < 500_000 || l.Max < 2_000_000 {
		t.Errorf("p50 %v, p90 %v, max %v µs: the stall must be felt by all that should have begun in it", l.P50, l.P90, l.Max)
	}
	if n := rows[0].Count + rows[0].Unsent; n != 1000 {
		t.Errorf("%d done and %d unsent, want 1000 in all", rows[0].Count, rows[0].Unsent)
	}
}

func TestOpenLoopCountsWhatItNeverSent(t *testing.T) {
	rows, _, err := runStep(t, Step{Name: "x", Clients: 2, Duration: 10 * time.Second, Rate: 20}, func(context.Context, *Meter) error {
		time.Sleep(time.Second) // a tenth of what is asked for
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// 200 should begin; each of the two clients begins ten, the last answers too late.
	if r := rows[0]; r.Unsent != 180 || r.Count < 18 || r.Count > 20 {
		t.Errorf("%d done and %d unsent, want about 20 and 180", r.Count, r.Unsent)
	}
}

func TestRefusalsAreCountedApartAndPausedFor(t *testing.T) {
	var calls atomic.Int64
	rows, _, err := runStep(t, Step{Name: "x", Clients: 1, Duration: 10 * time.Second}, func(context.Context, *Meter) error {
		calls.Add(1)
		return &Reasoned{Reason: "overloaded", Pause: time.Second, Err: errors.New("no")}
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := rows[0]; r.Count != 0 || r.Failed() != calls.Load() || r.Errors["overloaded"] != calls.Load() || calls.Load() > 11 {
		t.Errorf("%d calls, %d counted as done, errors %v", calls.Load(), r.Count, r.Errors)
	}
}

func TestFatalErrorEndsTheStep(t *testing.T) {
	_, closed, err := runStep(t, Step{Name: "x", Clients: 3, Duration: time.Hour}, func(ctx context.Context, m *Meter) error {
		time.Sleep(time.Second)
		return Fatal(errors.New("the disk is gone"))
	})
	if err == nil || !strings.Contains(err.Error(), "the disk is gone") || closed != 3 {
		t.Errorf("error %v, %d workers closed", err, closed)
	}
}

func TestCancelEndsTheStepWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var n atomic.Int64
		_, err := Run(ctx, Step{Name: "x", Clients: 1, Duration: time.Hour}, func(context.Context, int) (Worker, error) {
			return &worker{func(ctx context.Context, _ *Meter) error { <-ctx.Done(); return ctx.Err() }, &n}, nil
		})
		if err == nil || n.Load() != 1 {
			t.Errorf("error %v, %d workers closed", err, n.Load())
		}
	})
}

func TestWorkersThatCannotBeMadeAreAnError(t *testing.T) {
	var closed atomic.Int64
	_, err := Run(t.Context(), Step{Name: "x", Clients: 5, Duration: time.Second}, func(_ context.Context, i int) (Worker, error) {
		if i == 4 {
			return nil, errors.New("no seat")
		}
		return &worker{closed: &closed}, nil
	})
	if err == nil || !strings.Contains(err.Error(), "client 4: no seat") {
		t.Errorf("error %v", err)
	}
}

func TestStepsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, s := range map[string]Step{
		"no clients":   {Duration: time.Second},
		"too many":     {Clients: MaxClients + 1, Duration: time.Second},
		"no time":      {Clients: 1},
		"negative":     {Clients: 1, Duration: time.Second, Rate: -1},
		"beyond rates": {Clients: 1, Duration: time.Second, Rate: MaxRate + 1},
	} {
		if _, err := Run(t.Context(), s, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPartsAndUnitsHaveRowsOfTheirOwn(t *testing.T) {
	rows, _, err := runStep(t, Step{Name: "cycle", Clients: 1, Duration: 10 * time.Second}, func(_ context.Context, m *Meter) error {
		began := m.Start()
		time.Sleep(400 * time.Millisecond)
		m.Part("checkout", began)
		began = time.Now()
		time.Sleep(600 * time.Millisecond)
		m.Part("checkin", began)
		m.Units(100)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[1].Name != "cycle checkin" || rows[2].Name != "cycle checkout" {
		t.Fatalf("rows %+v", rows)
	}
	if n := rows[0].Count; n != 900 && n != 1000 {
		t.Errorf("%d units, want 100 for each of 9 or 10 operations", n)
	}
	if p := rows[2].Latency.P50; p < 399_000 || p > 401_000 {
		t.Errorf("median of the checkout %v µs, want 400000", p)
	}
}

// Readers of stored reports depend on these names.
func TestReportKeepsItsNames(t *testing.T) {
	r := NewReport("cycle", "seatkeeper", "v1", t.TempDir())
	r.Rows = append(r.Rows, Row{Name: "cycle", Clients: 2, Errors: map[string]int64{"overloaded": 1}, Latency: Latency{P99: 7}})
	r.Add("x", 1.5, "us")
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"schema":"seatkeeper-bench/1"`, `"bench":"cycle"`, `"system":"seatkeeper"`, `"per_second":`, `"warmup_seconds":`,
		`"latency_us":{"min":`, `"p99":7`, `"p999":`, `"errors":{"overloaded":1}`, `"unsent":`, `"values":[{"name":"x","value":1.5,"unit":"us"}]`, `"machine":{"cpu":`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is missing in %s", want, data)
		}
	}
	if _, ok := r.Row("cycle", 3); ok {
		t.Error("found a row with another number of clients")
	}
	if row, ok := r.Row("cycle", 0); !ok || row.Failed() != 1 {
		t.Error("did not find the row")
	}
}

func TestMachineIsMeasured(t *testing.T) {
	dir := t.TempDir()
	fsync, err := Fsync(t.Context(), dir, 20*time.Millisecond)
	if err != nil || fsync.Count < 1 || fsync.Latency.P50 <= 0 {
		t.Errorf("fsync: %+v, %v", fsync, err)
	}
	trip, err := RoundTrip(t.Context(), 20*time.Millisecond)
	if err != nil || trip.Count < 1 {
		t.Errorf("round trip: %+v, %v", trip, err)
	}
	if m := ThisMachine(dir); m.Cores < 1 || m.Go == "" {
		t.Errorf("machine: %+v", m)
	}
}
