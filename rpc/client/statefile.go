package client

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seatkeeper/seatkeeper/lease"
)

// ErrStateInUse is returned when another process holds the state file.
var ErrStateInUse = errors.New("state file is in use by another process")

// errLocked is returned by lockFile when somebody else holds the lock.
var errLocked = errors.New("locked")

// stateVersion is the format of the state file.
const stateVersion = 1

// maxStateFile bounds what is read: a state file is a few hundred bytes.
const maxStateFile = 64 << 10

// savedState is what the next run of the application needs to take over.
type savedState struct {
	Version     int    `json:"version"`
	SessionID   string `json:"session_id"`
	Secret      string `json:"session_secret"`
	Incarnation uint64 `json:"incarnation"`
}

// stateFile is the locked file of one session. The lock is on a file beside it, which
// stays: the state file itself is replaced at each write. A nil stateFile keeps
// nothing.
type stateFile struct {
	path string
	lock *os.File
}

// StatePath is the state file used for an application name: in the user's
// configuration folder (os.UserConfigDir), under seatkeeper/sessions.
func StatePath(application string) (string, error) {
	if application == "" || application == "." || application == ".." || len(application) > lease.MaxNameLen ||
		strings.ContainsAny(application, `/\:*?"<>|`+"\x00") {
		return "", fmt.Errorf("application name %.40q: want a plain file name", application)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the state file: %w", err)
	}
	return filepath.Join(dir, "seatkeeper", "sessions", application+".json"), nil
}

// openState locks the state file at path and reads it. A file that does not exist or
// cannot be understood is an empty state: its session then ends by itself.
func openState(path string) (*stateFile, savedState, error) {
	var saved savedState
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, saved, fmt.Errorf("state file: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, saved, fmt.Errorf("state file: %w", err)
	}
	if err := lockFile(lock); err != nil {
		_ = lock.Close()
		if errors.Is(err, errLocked) {
			return nil, saved, fmt.Errorf("%s: %w", path, ErrStateInUse)
		}
		return nil, saved, fmt.Errorf("state file: lock %s: %w", lock.Name(), err)
	}
	f := &stateFile{path: path, lock: lock}
	if saved, err = f.load(); err != nil {
		f.release()
		return nil, saved, err
	}
	return f, saved, nil
}

func (f *stateFile) load() (savedState, error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return savedState{}, nil
	}
	if err != nil {
		return savedState{}, fmt.Errorf("state file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxStateFile {
		return savedState{}, fmt.Errorf("state file %s: not a state file; remove it or name another", f.path)
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return savedState{}, fmt.Errorf("state file: %w", err)
	}
	var s savedState
	_, idErr := lease.ParseSessionID(s.SessionID)
	if err := json.Unmarshal(data, &s); err == nil {
		_, idErr = lease.ParseSessionID(s.SessionID)
	}
	if secret, err := hex.DecodeString(s.Secret); idErr != nil || err != nil || len(secret) != secretLen ||
		s.Version != stateVersion || s.Incarnation == 0 {
		return savedState{}, nil
	}
	return s, nil
}

// save replaces the file in one step and returns when it is on the disk, so that an
// incarnation is never used twice, not even after a power failure.
func (f *stateFile) save(s savedState) error {
	if f == nil {
		return nil
	}
	s.Version = stateVersion
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := f.replace(append(data, '\n')); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}

func (f *stateFile) replace(data []byte) error {
	// CreateTemp makes the file with mode 0600.
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// forget removes the state: the session is over.
func (f *stateFile) forget() error {
	if f == nil {
		return nil
	}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// release gives up the lock; closing the file does it on every system.
func (f *stateFile) release() {
	if f != nil {
		_ = f.lock.Close()
	}
}
