package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// recordVersion is the format of a record.
const recordVersion = 1

// maxRecord bounds what is read: a session has at most 1,024 leases of some 200 bytes.
const maxRecord = 1 << 20

// record is what the next run of the agent needs to know of one holder.
type record struct {
	Version   int             `json:"version"`
	ID        string          `json:"id"`
	Kind      kind            `json:"kind"`
	UID       int             `json:"uid"`
	Principal lease.Principal `json:"principal"`
	Instance  string          `json:"instance_id,omitempty"`
	Booking   string          `json:"booking,omitempty"`
	Process   process         `json:"process"`
	TTLMillis int64           `json:"ttl_ms,omitempty"`
	Session   savedSession    `json:"session"`
	Leases    []lostView      `json:"leases,omitempty"`
}

type savedSession struct {
	ID          string `json:"id"`
	Secret      string `json:"secret"`
	Incarnation uint64 `json:"incarnation"`
}

func (s savedSession) sdk() (client.SavedSession, error) {
	id, err := lease.ParseSessionID(s.ID)
	if err != nil || s.Secret == "" || s.Incarnation == 0 {
		return client.SavedSession{}, errors.New("no session in it")
	}
	return client.SavedSession{ID: id, Secret: s.Secret, Incarnation: s.Incarnation}, nil
}

// store is the folder with one file for each holder. It belongs to one agent at a time.
type store struct {
	dir  string
	lock *os.File
}

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("state_dir %s can be read by others (mode %04o), and secrets will be in it: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	if err := lockFile(lock); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("state_dir %s is used by another agent: give each its own --state-dir and --socket", dir)
	}
	return &store{dir: dir, lock: lock}, nil
}

// close lets another agent have the folder.
func (s *store) close() { _ = s.lock.Close() }

func (s *store) path(id string) string { return filepath.Join(s.dir, id+".json") }

// load reads all records. One that makes no sense is set aside; damaged names those.
func (s *store) load() (records []record, damaged []string, err error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		name := filepath.Join(s.dir, f.Name())
		if strings.HasSuffix(name, ".tmp") {
			_ = os.Remove(name) // of a write that was cut short
			continue
		}
		id, isRecord := strings.CutSuffix(f.Name(), ".json")
		if !isRecord {
			continue
		}
		r, err := readRecord(name)
		if err == nil && r.ID != id {
			err = errors.New("it is another holder's")
		}
		if err != nil {
			damaged = append(damaged, fmt.Sprintf("%s: %v", name, err))
			_ = os.Rename(name, name+".damaged")
			continue
		}
		records = append(records, r)
	}
	return records, damaged, nil
}

func readRecord(name string) (r record, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return r, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecord {
		return r, errors.New("not a record")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	if r.Version != recordVersion {
		return r, fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	}
	if !r.Kind.known() {
		return r, fmt.Errorf("kind %.20q", r.Kind)
	}
	_, err = r.Session.sdk()
	return r, err
}

// save replaces a record in one step and returns when it is safe from a power failure.
func (s *store) save(r record) error {
	r.Version = recordVersion
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// CreateTemp makes the file with mode 0600.
	tmp, err := os.CreateTemp(s.dir, r.ID+".*.tmp")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	_, err = tmp.Write(append(data, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), s.path(r.ID))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("state: %w", err)
	}
	return syncDir(s.dir)
}

func (s *store) remove(id string) error {
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
