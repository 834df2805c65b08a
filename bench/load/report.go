package load

import (
	"time"
)

// Schema names the form of a Report. A form that readers of the old one would
// misread gets a new number.
const Schema = "seatkeeper-bench/1"

// Report is everything one run of one benchmark on one system showed.
type Report struct {
	Schema string `json:"schema"`
	// Bench is what was measured (cycle, heartbeat …), System on what.
	Bench   string    `json:"bench"`
	System  string    `json:"system"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"`
	// Settings are what the run was told, by name.
	Settings map[string]string `json:"settings,omitempty"`
	Rows     []Row             `json:"rows"`
	Values   []Value           `json:"values,omitempty"`
	// Notes say what a reader must know to read the numbers right.
	Notes []string `json:"notes,omitempty"`
}

// NewReport begins a report now, on this machine; dir is where the servers write.
func NewReport(bench, system, version, dir string) *Report {
	return &Report{Schema: Schema, Bench: bench, System: system, Version: version, Started: time.Now().UTC().Truncate(time.Second),
		Machine: ThisMachine(dir), Settings: map[string]string{}, Rows: []Row{}}
}

// Row is one measured stretch of load.
type Row struct {
	Name          string  `json:"name"`
	Clients       int     `json:"clients"`
	Seconds       float64 `json:"seconds"`
	WarmupSeconds float64 `json:"warmup_seconds"`
	// Rate is what an open loop was to send each second; 0 is a closed loop.
	Rate float64 `json:"rate"`
	// Count is the units of work done: operations, or what each says it counts for.
	Count     int64   `json:"count"`
	PerSecond float64 `json:"per_second"`
	// Unsent is what an open loop should have begun and did not.
	Unsent int64 `json:"unsent"`
	// Errors counts operations that failed, by reason; they are in no latency.
	Errors  map[string]int64 `json:"errors,omitempty"`
	Latency Latency          `json:"latency_us"`
}

// Failed is how many operations failed.
func (r Row) Failed() int64 {
	var n int64
	for _, k := range r.Errors {
		n += k
	}
	return n
}

// Latency is in microseconds, from an HDR histogram with three digits.
type Latency struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Value is a single number beside the rows.
type Value struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Add puts a value into the report.
func (r *Report) Add(name string, value float64, unit string) {
	r.Values = append(r.Values, Value{name, value, unit})
}

// Row finds a row by name and clients; clients 0 takes any.
func (r *Report) Row(name string, clients int) (Row, bool) {
	for _, row := range r.Rows {
		if row.Name == name && (clients == 0 || row.Clients == clients) {
			return row, true
		}
	}
	return Row{}, false
}

// Find finds a value by name.
func (r *Report) Find(name string) (Value, bool) {
	for _, v := range r.Values {
		if v.Name == name {
			return v, true
		}
	}
	return Value{}, false
}
