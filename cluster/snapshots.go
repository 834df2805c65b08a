package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// Names that raft's file snapshot store uses.
const (
	snapshotsDir  = "snapshots"
	snapshotMeta  = "meta.json"
	snapshotState = "state.bin"
	snapshotTmp   = ".tmp"
)

// snapshotMagic begins the state file of a snapshot; a copy of the metadata follows.
const snapshotMagic = "SKMETA01"

// maxSnapshotMeta bounds that copy: a few hundred bytes for each member.
const maxSnapshotMeta = 1 << 20

// checkedSnapshots is raft's file snapshot store with two holes closed: the metadata
// (index, term, members) is covered by no checksum there, so a copy of it, with one,
// goes in front of the state; and the directory of a new snapshot is not synced, so that
// a power failure could leave it without its files after the log was shortened.
type checkedSnapshots struct {
	files *raft.FileSnapshotStore
	dir   string // of the snapshots
	id    string // server id, for messages
}

// Create begins a snapshot.
func (c *checkedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := c.files.Create(v, index, term, conf, confIndex, t)
	if err != nil {
		c.sweep(fmt.Sprintf("%d-%d-", term, index)) // raft leaves it there, on a disk that may be full
		return nil, err
	}
	s := &checkedSink{SnapshotSink: sink, tmp: filepath.Join(c.dir, sink.ID()+snapshotTmp)}
	head, err := snapshotHead(&raft.SnapshotMeta{Version: v, Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex})
	if err == nil {
		_, err = sink.Write(head)
	}
	if err == nil {
		err = syncDir(s.tmp) // its two files have been made; their contents are synced at Close
	}
	if err != nil {
		_ = s.Cancel()
		return nil, err
	}
	return s, nil
}

// List returns the newest snapshot only: an older one would leave a hole between it and
// the log, which goes back further than the newest one only by chance.
func (c *checkedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	list, err := c.files.List()
	return list[:min(1, len(list))], err
}

// Open checks the whole snapshot and returns it.
func (c *checkedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, state, err := c.files.Open(id)
	if err != nil {
		return nil, nil, err
	}
	want, err := snapshotHead(meta)
	if info, serr := os.Stat(filepath.Join(c.dir, id, snapshotState)); err == nil && (serr != nil || info.Size() != meta.Size) {
		err = fmt.Errorf("%s has another size than %s says", snapshotState, snapshotMeta)
	}
	if err == nil {
		have := make([]byte, len(want))
		if _, rerr := io.ReadFull(state, have); rerr != nil || !bytes.Equal(have, want) {
			err = errors.New("its metadata does not match the copy in its state")
		}
	}
	if err != nil {
		state.Close()
		return nil, nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	m := *meta
	m.Size -= int64(len(want))
	return &m, state, nil
}

// snapshotHead is the copy of the metadata that stands in front of the state.
func snapshotHead(m *raft.SnapshotMeta) ([]byte, error) {
	body, err := json.Marshal(struct {
		Version         raft.SnapshotVersion
		Index, Term     uint64
		Configuration   raft.Configuration
		ConfigurationAt uint64
	}{m.Version, m.Index, m.Term, m.Configuration, m.ConfigurationIndex})
	if err != nil || len(body) > maxSnapshotMeta {
		return nil, fmt.Errorf("metadata of %d bytes: %w", len(body), err)
	}
	head := append([]byte(snapshotMagic), little.AppendUint32(nil, uint32(len(body)))...)
	head = append(head, body...)
	return little.AppendUint32(head, crc32.Checksum(head, castagnoli)), nil
}

// snapshotSyncBytes is how much of a snapshot may wait in the kernel for its disk. All of it
// at once, 200 MB of a million leases, would hold up every sync of the log behind it for
// longer than followers wait for their leader.
const snapshotSyncBytes = 4 << 20

type checkedSink struct {
	raft.SnapshotSink
	tmp      string
	state    *os.File // opened by the first sync
	unsynced int
}

// Write adds to the state, and syncs what has come together.
func (s *checkedSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	if s.unsynced += n; err != nil || s.unsynced < snapshotSyncBytes {
		return n, err
	}
	s.unsynced = 0
	if s.state == nil {
		if s.state, err = os.Open(filepath.Join(s.tmp, snapshotState)); err != nil {
			return n, err
		}
	}
	return n, syncData(s.state)
}

func (s *checkedSink) closeState() {
	if s.state != nil {
		s.state.Close() // it was opened for reading
	}
}

// Close ends the snapshot; on error nothing of it stays.
func (s *checkedSink) Close() error {
	s.closeState()
	err := s.SnapshotSink.Close()
	if err != nil {
		os.RemoveAll(s.tmp)
	}
	return err
}

// Cancel drops the snapshot. Raft's own leaves its files there if it cannot flush them,
// which on a full disk is always.
func (s *checkedSink) Cancel() error {
	s.closeState()
	err := s.SnapshotSink.Cancel()
	return errors.Join(err, os.RemoveAll(s.tmp))
}

// sweep removes unfinished snapshots whose name begins with prefix.
func (c *checkedSnapshots) sweep(prefix string) {
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), snapshotTmp) {
			os.RemoveAll(filepath.Join(c.dir, e.Name()))
		}
	}
}

// check reads all snapshots and returns where the newest one ends, 0 if there is none.
func (c *checkedSnapshots) check() (newest uint64, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return 0, fmt.Errorf("snapshots cannot be read: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), snapshotTmp) {
			continue
		}
		meta, err := c.checkOne(e.Name())
		if err != nil {
			return 0, &DamageError{File: filepath.Join(c.dir, e.Name()), What: err.Error(), ID: c.id}
		}
		newest = max(newest, meta.Index)
	}
	return newest, nil
}

func (c *checkedSnapshots) checkOne(name string) (*raft.SnapshotMeta, error) {
	meta, state, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	state.Close()
	if meta.ID != name {
		return nil, fmt.Errorf("%s names snapshot %s", snapshotMeta, meta.ID)
	}
	return meta, nil
}
