package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Replay chooses what ReplayLog writes.
type Replay struct {
	// From and To are the first and the last index wanted; 0 is open.
	From, To uint64
	// Tail also writes the entries at the end of the log that nothing shows to have been
	// applied; they are marked uncertain, and may never have been committed.
	Tail bool
}

// ReplayLog applies the log of a stopped node again and writes the entries that the node
// had certainly applied, one JSON object a line, with what came of them. The state that
// the log begins from comes first, as {"snapshot": …}. A data directory in use or
// damaged is refused.
func ReplayLog(dir string, r Replay, w io.Writer) (err error) {
	if _, err := os.Stat(filepath.Join(dir, logFile)); err != nil {
		return fmt.Errorf("%s is no data directory of a node: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	incarnation, err := readIncarnation(filepath.Join(dir, idFile))
	if err != nil {
		return err
	}
	id := "node-" + incarnation
	snaps, err := openSnapshots(dir, id, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	log, err := openLog(dir, id, snaps, true, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer log.Close()
	m, err := readMark(filepath.Join(dir, markFile))
	if err != nil {
		return err
	}
	p := &replayer{Replay: r, log: log, snaps: snaps, applied: m.applied, out: json.NewEncoder(w), w: w}
	return p.run()
}

type replayer struct {
	Replay
	log     *checkedLog
	snaps   *checkedSnapshots
	applied uint64
	w       io.Writer
	out     *json.Encoder
	err     error // of the writer
}

func (p *replayer) run() (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("the log cannot be replayed: %v", x)
		}
	}()
	machine := fsm.New(fsm.Options{Observe: p.observe, Restored: p.restored})
	next, last, err := p.restore(machine)
	if err != nil {
		return err
	}
	if !p.Tail {
		last = min(last, p.applied)
	}
	if p.To > 0 {
		last = min(last, p.To)
	}
	for ; next <= last && p.err == nil; next++ {
		var l raft.Log
		if err := p.log.GetLog(next, &l); err != nil {
			return fmt.Errorf("entry %d: %w", next, err)
		}
		if l.Type == raft.LogCommand {
			machine.Apply(&l)
		}
	}
	return p.err
}

// restore loads the oldest state that the log goes on from, and returns the first entry
// to apply and the last one there is.
func (p *replayer) restore(machine *fsm.FSM) (next, last uint64, err error) {
	first, err := p.log.FirstIndex()
	if err == nil {
		last, err = p.log.LastIndex()
	}
	if err != nil {
		return 0, 0, err
	}
	for i := first; i <= last && i > 0; i++ { // below a snapshot some may be missing
		if err := p.log.GetLog(i, new(raft.Log)); errors.Is(err, raft.ErrLogNotFound) {
			first = i + 1
		}
	}
	if first == 1 {
		return 1, last, nil
	}
	list, err := p.snaps.files.List()
	if err != nil {
		return 0, 0, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if first > list[i].Index+1 && i > 0 {
			continue
		}
		meta, state, err := p.snaps.Open(list[i].ID)
		if err != nil {
			return 0, 0, err
		}
		return meta.Index + 1, last, machine.Restore(state)
	}
	return 1, last, nil
}

func (p *replayer) observe(l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book, events []lease.Event) {
	if l.Index < p.From || p.err != nil {
		return
	}
	a := fsm.Audit(l, e, o, b, events)
	a.Uncertain = l.Index > p.applied
	p.err = p.out.Encode(a)
}

func (p *replayer) restored(s fsm.Status, b *lease.Book) {
	if p.From <= s.AppliedIndex+1 {
		_, p.err = p.w.Write(append(fsm.AuditState(s, b), '\n'))
	}
}
