package cluster

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
)

const (
	// recoveryLift is how far the log's index is lifted: above all entries that the lost
	// nodes can have written since, so that no log of theirs ever seems to agree.
	recoveryLift = 1 << 32
	// recoveryDial bounds the question whether the other members still answer.
	recoveryDial = time.Second
)

// Names in the data directory while it is recovered. The new files are made in the first;
// its new name is the point of no return, and whoever opens the directory next goes on.
const (
	recoveryTmp   = "recovery.tmp"
	recoveryReady = "recovery.ready"
	recoveryKept  = "kept-as" // in recoveryReady: where the old files go
	keptPrefix    = "before-recovery-"
)

// recoveredFiles are what a recovery replaces.
var recoveredFiles = []string{markFile, logFile, segmentsDir, idFile, snapshotsDir}

// RecoverOptions say what is recovered.
type RecoverOptions struct {
	DataDir     string
	Name        string // of the node
	RaftAddress string // at which others will reach it
	// Fence is for how long checkouts wait afterwards; see lease.Book.Recover.
	Fence time.Duration
}

// RecoveryPlan is what a recovery would do.
type RecoveryPlan struct {
	DataDir   string `json:"data_dir"`
	ClusterID string `json:"cluster_id"`
	OldID     string `json:"old_id"`
	NewID     string `json:"new_id"`
	Address   string `json:"address"`
	// LastIndex, LastTerm and LastAt are of the last entry in this node's log. What the
	// others acknowledged behind it is lost.
	LastIndex uint64    `json:"last_index,string"`
	LastTerm  uint64    `json:"last_term,string"`
	LastAt    time.Time `json:"last_at"`
	// Uncertain entries at the end were not known to be acknowledged; they count from now.
	Uncertain uint64            `json:"uncertain,string"`
	Members   []RecoveredMember `json:"members"` // until now
	Sessions  int               `json:"sessions"`
	Leases    int               `json:"leases"`
	Seats     int               `json:"seats_in_use"`
	Licences  int               `json:"licenses"`
	// Recoveries counts this one.
	Recoveries uint64 `json:"recoveries,string"`
	FenceMs    int64  `json:"checkouts_wait_ms"`
}

// RecoveredMember is a member of before.
type RecoveredMember struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
	// Answers: something takes connections at its Raft address.
	Answers bool `json:"answers"`
}

// Recovery is a recovery from the loss of the majority, about to be done on the data
// directory of a stopped node: it becomes the only voter of the cluster, which goes on with
// what this node knows. Raft's own RecoverCluster keeps the server id and the place in the
// log; then the old nodes, should they come back, could overwrite it as its leaders, or
// join with logs that seem to agree. Here it becomes another server, far ahead.
type Recovery struct {
	Plan    RecoveryPlan
	opts    RecoverOptions
	lock    *os.File
	machine *fsm.FSM
	index   uint64 // of the new snapshot
	term    uint64
	lineage string
	store   LogStore
}

// OpenRecovery locks the data directory, reads all of it, and says in Plan what would be
// done. Nothing is changed before Commit. It refuses while the server runs, and while a
// majority of voters takes connections.
func OpenRecovery(o RecoverOptions) (_ *Recovery, err error) {
	if _, err := checkAddr("Raft address", o.RaftAddress); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.DataDir); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", o.DataDir, plain(err))
	}
	r := &Recovery{opts: o}
	if r.lock, err = lockDir(o.DataDir); err != nil {
		return nil, fmt.Errorf("%w: stop the server first", err)
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if kept, err := finishRecovery(o.DataDir); err != nil {
		return nil, err
	} else if kept != "" {
		return nil, fmt.Errorf("a recovery that was cut short is done now (the old files are in %s): start the server", kept)
	}
	if err := r.read(); err != nil {
		return nil, err
	}
	return r, r.judgeOthers()
}

// Close lets go of the directory.
func (r *Recovery) Close() error { return r.lock.Close() }

// read applies all that the directory holds to a state machine of its own.
func (r *Recovery) read() (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("the log cannot be replayed: %v", x)
		}
	}()
	dir := r.opts.DataDir
	if _, err := os.Stat(filepath.Join(dir, logFile)); err != nil {
		return fmt.Errorf("%s is no data directory of a node: there is no %s in it", dir, logFile)
	}
	incarnation, err := readIncarnation(filepath.Join(dir, idFile))
	if err != nil {
		return err
	}
	id := r.opts.Name + "-" + incarnation
	snaps, err := openSnapshots(dir, id, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	log, err := openLog(dir, id, snaps, true, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer log.Close()
	r.store = log.store()
	marks, err := readMark(filepath.Join(dir, markFile))
	if err != nil {
		return err
	}
	r.machine = fsm.New(fsm.Options{})
	r.Plan = RecoveryPlan{DataDir: dir, OldID: id, Address: r.opts.RaftAddress}
	from, err := r.replay(log, snaps)
	if err != nil {
		return err
	}
	st := r.machine.Status()
	if st.ClusterID == "" || len(r.Plan.Members) == 0 {
		return fmt.Errorf("%s was never a member of a cluster: recover the node that was", id)
	}
	current, err := log.GetUint64([]byte("CurrentTerm"))
	if err != nil && err.Error() != "not found" { // raft's own way to tell
		return err
	}
	r.index, r.term = r.Plan.LastIndex+recoveryLift, max(current, r.Plan.LastTerm)+1
	if known := max(marks.applied, from); r.Plan.LastIndex > known {
		r.Plan.Uncertain = r.Plan.LastIndex - known
	}
	var random [4]byte
	rand.Read(random[:]) // never fails
	r.lineage = hex.EncodeToString(random[:])
	b := r.machine.Backup(id, "", time.Now()).Header
	r.Plan.ClusterID, r.Plan.NewID = st.ClusterID, r.opts.Name+"-"+r.lineage
	r.Plan.Sessions, r.Plan.Leases, r.Plan.Seats, r.Plan.Licences = b.Sessions, b.Leases, b.SeatsInUse, b.Licences
	r.machine.Recover(fsm.Recovery{Index: r.index, Term: r.term, Lineage: r.lineage, Fence: r.opts.Fence})
	r.Plan.Recoveries, r.Plan.FenceMs = r.machine.Status().Recoveries, r.machine.Fence().Milliseconds()
	return nil
}

// replay restores the newest snapshot, which ends at from, and applies the log behind it.
func (r *Recovery) replay(log *checkedLog, snaps *checkedSnapshots) (from uint64, err error) {
	list, err := snaps.List()
	if err != nil {
		return 0, err
	}
	p := &r.Plan
	if len(list) > 0 {
		meta, state, err := snaps.Open(list[0].ID)
		if err != nil {
			return 0, err
		}
		if err := r.machine.Restore(state); err != nil {
			return 0, err
		}
		p.LastIndex, p.LastTerm = meta.Index, meta.Term
		p.members(meta.Configuration)
	}
	from = p.LastIndex
	last, err := log.LastIndex()
	if err != nil {
		return 0, err
	}
	for i := from + 1; i <= last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return 0, fmt.Errorf("entry %d: %w", i, err)
		}
		switch l.Type {
		case raft.LogCommand:
			r.machine.Apply(&l)
		case raft.LogConfiguration:
			p.members(raft.DecodeConfiguration(l.Data))
		}
		p.LastIndex, p.LastTerm, p.LastAt = l.Index, l.Term, l.AppendedAt
	}
	return from, nil
}

func (p *RecoveryPlan) members(c raft.Configuration) {
	p.Members = nil
	for _, s := range c.Servers {
		p.Members = append(p.Members, RecoveredMember{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
}

// judgeOthers asks whether the others are really gone.
func (r *Recovery) judgeOthers() error {
	var wg sync.WaitGroup
	for i := range r.Plan.Members {
		m := &r.Plan.Members[i]
		if m.ID == r.Plan.OldID {
			continue
		}
		wg.Go(func() {
			if c, err := net.DialTimeout("tcp", m.Address, recoveryDial); err == nil {
				m.Answers = true
				c.Close()
			}
		})
	}
	wg.Wait()
	voters, answer := 0, 0
	for _, m := range r.Plan.Members {
		if m.Voter {
			voters++
			if m.Answers {
				answer++
			}
		}
	}
	if voters > 1 && answer >= majority(voters) {
		return fmt.Errorf("%d of %d voters take connections at their Raft addresses: a majority is there, and nothing to recover; if they are new nodes, stop them first", answer, voters)
	}
	return nil
}

// Commit makes the directory that of the recovered cluster, and returns where the old
// files are kept. A crash in it changes nothing or is made good by whoever opens the
// directory next.
func (r *Recovery) Commit() (kept string, err error) {
	dir := r.opts.DataDir
	tmp := filepath.Join(dir, recoveryTmp)
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := r.build(tmp); err != nil {
		os.RemoveAll(tmp)
		return "", fmt.Errorf("nothing was changed: %w", err)
	}
	if err := keepOwner(tmp, filepath.Join(dir, logFile)); err != nil {
		os.RemoveAll(tmp)
		return "", fmt.Errorf("nothing was changed: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, recoveryReady)); err != nil {
		os.RemoveAll(tmp)
		return "", fmt.Errorf("nothing was changed: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return "", err
	}
	return finishRecovery(dir)
}

// build makes a whole data directory: an empty log and one snapshot. It reads back what
// it wrote.
func (r *Recovery) build(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if r.store == LogWAL {
		if err := os.Mkdir(filepath.Join(dir, segmentsDir), 0o700); err != nil {
			return err
		}
	}
	if err := createLog(filepath.Join(dir, logFile), r.lineage, r.store); err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(dir, idFile), r.lineage+"\n"); err != nil {
		return err
	}
	kept := keptPrefix + time.Now().UTC().Format("20060102T150405Z")
	if err := writeSynced(filepath.Join(dir, recoveryKept), kept+"\n"); err != nil {
		return err
	}
	s, err := openStorage(dir, r.opts.Name, r.store, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	if err := errors.Join(r.fill(s), s.Close()); err != nil {
		return err
	}
	if s, err = openStorage(dir, r.opts.Name, r.store, hclog.NewNullLogger()); err != nil {
		return err
	}
	defer s.Close()
	return errors.Join(r.check(s), os.Remove(filepath.Join(dir, lockFile)), syncDir(dir))
}

func (r *Recovery) fill(s *storage) error {
	if err := s.log.SetUint64([]byte("CurrentTerm"), r.term); err != nil {
		return err
	}
	address, trans := raft.NewInmemTransport(raft.ServerAddress(r.opts.RaftAddress))
	defer trans.Close()
	alone := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(r.Plan.NewID), Address: address}}}
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, r.index, r.term, alone, 1, trans)
	if err != nil {
		return err
	}
	snap, err := r.machine.Snapshot()
	if err != nil {
		return err
	}
	return snap.Persist(sink)
}

// check compares the state that was written with the one that was meant.
func (r *Recovery) check(s *storage) error {
	list, err := s.snapshots.List()
	if err != nil || len(list) != 1 {
		return fmt.Errorf("the new snapshot is not there: %w", err)
	}
	_, state, err := s.snapshots.Open(list[0].ID)
	if err != nil {
		return err
	}
	again := fsm.New(fsm.Options{})
	if err := again.Restore(state); err != nil {
		return err
	}
	var want, have bytes.Buffer
	if _, err := r.machine.WriteTo(&want); err != nil {
		return err
	}
	if _, err := again.WriteTo(&have); err != nil || !bytes.Equal(want.Bytes(), have.Bytes()) {
		return errors.New("the new snapshot is not what was written")
	}
	return nil
}

// finishRecovery puts the files of a recovery that has passed the point of no return in
// place, and returns where the old ones are kept; "" if there is none. It may be cut short
// anywhere and begun again.
func finishRecovery(dir string) (kept string, err error) {
	ready := filepath.Join(dir, recoveryReady)
	name, err := os.ReadFile(filepath.Join(ready, recoveryKept))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("recovery in %s: %w", dir, plain(err))
	}
	kept = filepath.Join(dir, filepath.Base(string(bytes.TrimSpace(name))))
	if err := os.Mkdir(kept, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("recovery in %s: %w", dir, err)
	}
	for _, f := range recoveredFiles {
		if err := swapIn(filepath.Join(ready, f), filepath.Join(dir, f), filepath.Join(kept, f)); err != nil {
			return "", fmt.Errorf("recovery in %s: %w", dir, err)
		}
	}
	if err := errors.Join(keepOwner(kept, filepath.Join(dir, logFile)), syncDir(kept), syncDir(dir)); err != nil {
		return "", err
	}
	return kept, errors.Join(os.RemoveAll(ready), syncDir(dir))
}

// swapIn moves the old file away and the new one to its place, unless that is done.
func swapIn(from, to, away string) error {
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(away); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(to, away); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(from, to)
}
