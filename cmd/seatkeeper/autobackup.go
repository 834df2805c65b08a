package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
)

// Backups are written by the leader by itself; all nodes have the same settings, and
// whichever leads writes into its own folder (or one that they share).
type Backups struct {
	// Dir is where; empty: none are written.
	Dir string `yaml:"dir"`
	// Every is the time from one backup to the next.
	Every string `yaml:"every"`
	// Keep is how many are kept in the folder; older ones are removed.
	Keep int `yaml:"keep"`
}

// Bounds of the settings: more often than each minute the disk does little else, and a
// backup that is older than a week restores a cluster that is gone.
const (
	minBackupEvery = time.Minute
	maxBackupEvery = 7 * 24 * time.Hour
	maxBackupKeep  = 1000
	// backupLook is how often a node looks whether a backup is due and whether it leads.
	backupLook = 5 * time.Second
	// backupRetry is how long it waits after one that failed.
	backupRetry = time.Minute
)

// backupName is fixed in length and sorts by time; the leader's clock gives it.
const (
	backupPrefix = "seatkeeper-"
	backupSuffix = ".snap"
	backupTime   = "20060102T150405Z"
)

func (b *Backups) every() (time.Duration, error) {
	d, err := time.ParseDuration(b.Every)
	if err != nil {
		return 0, fmt.Errorf("%q: use a time such as 1h or 30m", b.Every)
	}
	if d < minBackupEvery || d > maxBackupEvery {
		return 0, fmt.Errorf("%v: use %v to %v", d, minBackupEvery, maxBackupEvery)
	}
	return d, nil
}

// backupSource is what a keeper needs of a node.
type backupSource interface {
	Leading() bool
	Backup(ctx context.Context) (*fsm.Backup, error)
}

// backupKeeper writes backups while its node leads.
type backupKeeper struct {
	node    backupSource
	dir     string
	every   time.Duration
	keep    int
	log     hclog.Logger
	now     func() time.Time
	written prometheus.Gauge
	failed  prometheus.Counter
}

func newBackupKeeper(b *Backups, node backupSource, log hclog.Logger, reg prometheus.Registerer) (*backupKeeper, error) {
	every, err := b.every()
	if err != nil {
		return nil, err
	}
	k := &backupKeeper{
		node: node, dir: b.Dir, every: every, keep: b.Keep, log: log, now: time.Now,
		written: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "seatkeeper", Subsystem: "backup",
			Name: "last_timestamp_seconds", Help: "When this node last wrote a backup by itself, Unix time."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "seatkeeper", Subsystem: "backup",
			Name: "failures_total", Help: "Backups that this node could not write."}),
	}
	return k, errors.Join(reg.Register(k.written), reg.Register(k.failed))
}

// run writes backups until ctx ends. When the last one was written is read from the
// folder, so a restart or a change of leader neither hurries nor delays the next.
func (k *backupKeeper) run(ctx context.Context) {
	look := time.NewTicker(backupLook)
	defer look.Stop()
	var wait time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if !k.node.Leading() || k.now().Before(wait) {
			continue
		}
		switch name, err := k.look(ctx); {
		case err != nil:
			k.failed.Inc()
			k.log.Error("no backup was written", "dir", k.dir, "error", err)
			wait = k.now().Add(backupRetry)
		case name != "":
			k.written.Set(float64(k.now().Unix()))
			k.log.Info("backup written", "file", name)
		}
	}
}

// look writes a backup if one is due, and says which.
func (k *backupKeeper) look(ctx context.Context) (name string, err error) {
	list, err := k.list()
	if err != nil {
		return "", err
	}
	now := k.now().UTC()
	if n := len(list); n > 0 {
		// One from the future is of a clock that was wrong: it shall not stop the others.
		if last, ok := backupTimeOf(list[n-1]); ok && !last.After(now) && now.Sub(last) < k.every {
			return "", nil
		}
	}
	name = filepath.Join(k.dir, backupPrefix+now.Format(backupTime)+backupSuffix)
	if err := k.write(ctx, name); err != nil {
		return "", err
	}
	return name, k.prune()
}

// list gives the names of the backups in the folder, oldest first. Other files are not
// touched.
func (k *backupKeeper) list() (names []string, err error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, plainPath(err)
	}
	for _, e := range entries {
		if _, ok := backupTimeOf(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func backupTimeOf(name string) (time.Time, bool) {
	stamp, ok := strings.CutPrefix(name, backupPrefix)
	stamp, also := strings.CutSuffix(stamp, backupSuffix)
	t, err := time.Parse(backupTime, stamp)
	return t, ok && also && err == nil
}

// write makes a backup that is there whole, or not at all, and reads it back.
func (k *backupKeeper) write(ctx context.Context, name string) (err error) {
	b, err := k.node.Backup(ctx)
	if err != nil {
		if leader := (*cluster.NotLeaderError)(nil); errors.As(err, &leader) {
			return errors.New("leadership was lost meanwhile; the next leader writes it")
		}
		return err
	}
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return plainPath(err)
	}
	defer func() {
		if f.Close(); err != nil {
			os.Remove(tmp)
		}
	}()
	out := bufio.NewWriterSize(f, 1<<20)
	if _, err = b.WriteTo(out); err != nil {
		return err
	}
	if err = errors.Join(out.Flush(), f.Sync()); err != nil {
		return err
	}
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err = fsm.CheckBackup(bufio.NewReaderSize(f, 1<<20)); err != nil {
		return fmt.Errorf("what was written cannot be read back: %w", err)
	}
	if err = os.Rename(tmp, name); err != nil {
		return err
	}
	syncFolder(k.dir)
	return nil
}

// prune removes the oldest backups beyond those to keep, and what a killed process left.
func (k *backupKeeper) prune() error {
	names, err := k.list()
	if err != nil {
		return err
	}
	for len(names) > k.keep {
		if err := os.Remove(filepath.Join(k.dir, names[0])); err != nil {
			return plainPath(err)
		}
		names = names[1:]
	}
	left, _ := filepath.Glob(filepath.Join(k.dir, backupPrefix+"*"+backupSuffix+".tmp"))
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && k.now().Sub(info.ModTime()) > time.Hour {
			_ = os.Remove(name)
		}
	}
	return nil
}

// samePath says whether two names mean one folder.
func samePath(a, b string) bool {
	x, errA := filepath.Abs(a)
	y, errB := filepath.Abs(b)
	return errA == nil && errB == nil && x == y
}

// plainPath words an error about a file without the name of the system call.
func plainPath(err error) error {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}
