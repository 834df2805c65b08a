package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/nemesis"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

const (
	// glanceEvery is how often a scene is judged while it goes on.
	glanceEvery = 2 * time.Second
	// settleFor is load's end to the servers' end: the followers learn what is committed.
	settleFor = 500 * time.Millisecond
)

// scene is a short run: load, faults, load, and no farewell. It ends early when a checker
// that it is for is red.
func (w *world) scene(ctx context.Context, nem *nemesis.Nemesis, stop func() error) error {
	s := w.cfg.Scene
	acting, seen := context.WithCancel(ctx)
	defer seen()
	var watch sync.WaitGroup
	if w.cfg.Early {
		watch.Go(func() { w.glance(acting, seen) })
	}
	var errs []error
	w.rec.Phase(history.PhaseWarm)
	sleep(acting, s.Warm)
	w.rec.Phase(history.PhaseFaults)
	if acting.Err() == nil {
		errs = append(errs, nem.Once(acting, w.cfg.Families))
	}
	if acting.Err() == nil {
		errs = append(errs, nem.Heal(ctx))
		w.rec.Phase(history.PhaseHealed)
		sleep(acting, s.After)
	} else {
		errs = nil // what was broken off is no failure
	}
	seen()
	watch.Wait()
	errs = append(errs, stop())
	w.rec.Phase(history.PhaseEnd)
	sleep(ctx, settleFor)
	return errors.Join(append(errs, ctx.Err())...)
}

// glance judges what there is until ctx ends, and calls seen when a checker is red. What
// is stored in the end decides. C8 can be asked in the end only: it is about final logs.
func (w *world) glance(ctx context.Context, seen func()) {
	only := slices.DeleteFunc(slices.Clone(w.cfg.Only), func(name string) bool { return name == "C8" })
	if len(only) == 0 {
		return
	}
	for sleep(ctx, glanceEvery); ctx.Err() == nil; sleep(ctx, glanceEvery) {
		r, err := w.sofar()
		if err != nil {
			w.cfg.Log("cannot judge yet: %v", err)
			continue
		}
		report := checker.Judge(r, checker.Options{Only: only})
		for _, v := range report.Verdicts {
			if v.Result == checker.Invalid {
				w.cfg.Log("%s is red", v.Name)
				seen()
				return
			}
		}
	}
}

// opsSoFar reads the history as far as it has been written.
func (w *world) opsSoFar() ([]history.Op, error) {
	if err := w.writer.Flush(); err != nil {
		return nil, err
	}
	lines, err := wholeLines(filepath.Join(w.cfg.Dir, historyFile))
	if err != nil {
		return nil, err
	}
	return history.Read(bytes.NewReader(lines))
}

// sofar is the run as far as it has come.
func (w *world) sofar() (*checker.Run, error) {
	ops, err := w.opsSoFar()
	if err != nil {
		return nil, err
	}
	// Every entry up to the last one that was answered is of a request that ops has.
	var last uint64
	for i := range ops {
		last = max(last, ops[i].RaftIndex)
	}
	var audits []*history.Audit
	for _, n := range w.cluster.Nodes {
		lines, err := wholeLines(n.Audit)
		if err != nil {
			return nil, err
		}
		told, err := readApplied(bytes.NewReader(lines), n.Name)
		if err != nil {
			return nil, err
		}
		told = once(told)
		told.Entries = slices.DeleteFunc(told.Entries, func(e history.Entry) bool { return e.Index > last })
		audits = append(audits, told)
	}
	return checker.NewRun(w.test, ops, audits)
}

// wholeLines reads a file that is being written, up to its last whole line.
func wholeLines(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	return data[:bytes.LastIndexByte(data, '\n')+1], err
}

// stopAll stops all servers at once.
func (w *world) stopAll() error {
	errs := make(chan error, len(w.cluster.Nodes))
	for _, n := range w.cluster.Nodes {
		go func() { errs <- n.Stop() }()
	}
	var failed []error
	for range w.cluster.Nodes {
		failed = append(failed, <-errs)
	}
	return errors.Join(failed...)
}

// Trial is one scene that was played, with a bug or without.
type Trial struct {
	Verdicts []checker.Verdict
	// Unsure says why nothing can be concluded.
	Unsure string
	Took   time.Duration
	Dir    string
}

// Of is the verdict of a checker.
func (t *Trial) Of(name string) checker.Verdict {
	i := slices.IndexFunc(t.Verdicts, func(v checker.Verdict) bool { return v.Name == name })
	if i < 0 {
		return checker.Verdict{Name: name, Result: checker.Unknown}
	}
	return t.Verdicts[i]
}

// Try plays a scene and has it judged by those checkers. cfg says where, with what bug,
// and whether to end when it is seen; the scene sets the rest.
func Try(ctx context.Context, cfg Config, s *Scene, only ...string) (*Trial, error) {
	began := time.Now()
	families, err := nemesis.Named(s.Faults...)
	if err != nil {
		return nil, err
	}
	for i := range families {
		if s.Last > 0 {
			families[i].For = s.Last
		}
	}
	cfg.Families, cfg.Scene, cfg.Only, cfg.Rate = families, s, only, s.Rate
	if s.SnapshotEntries > 0 {
		cfg.Env = append(slices.Clone(cfg.Env), fmt.Sprintf("SEATKEEPER_SNAPSHOT_ENTRIES=%d", s.SnapshotEntries))
	}
	t := &Trial{Dir: cfg.Dir}
	if err := Execute(ctx, cfg); err != nil {
		t.Unsure = err.Error()
	}
	r, err := load(cfg.Dir)
	if err != nil {
		return nil, errors.Join(errors.New(t.Unsure), err)
	}
	report, err := judge(r, cfg.Dir, only)
	if err != nil {
		return nil, err
	}
	t.Verdicts = report.Verdicts
	for i := range r.Faults {
		if f := &r.Faults[i]; !f.Bit && t.Unsure == "" {
			t.Unsure = fmt.Sprintf("fault %s did not bite: %s", f.ID, f.Proof)
		}
	}
	if len(r.Faults) < len(s.Faults) && t.Unsure == "" {
		t.Unsure = fmt.Sprintf("%d of %d faults were made", len(r.Faults), len(s.Faults))
	}
	t.Took = time.Since(began)
	return t, nil
}

// plenty is how many times as many seats there are where nobody is to be refused.
const plenty = 8

// pools are those of a long run, short-lived or larger if so asked.
func (s *Scene) pools() []node.Pool {
	list := pools()
	for i := range list {
		if s.Term > 0 {
			list[i].Lifespan, list[i].Grace = s.Term*2/3, s.Term/3
		}
		if s.Plenty {
			list[i].Count *= plenty
		}
	}
	return list
}
