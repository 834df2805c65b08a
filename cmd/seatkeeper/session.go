package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
)

// sessionFlags name a session of single steps. Its secret is never a flag: other
// users can read a process's arguments.
type sessionFlags struct {
	id, secretFile, state string
}

func (f *sessionFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.state, "state", "", "file that keeps the session between steps (mode 0600)")
	cmd.Flags().StringVar(&f.id, "session", "", "session id (its secret in --secret-file or SEATKEEPER_SESSION_SECRET)")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "file that holds the session's secret; - for stdin")
}

// session is one session as single steps know it; a state file holds its fields.
type session struct {
	ID     string `json:"session_id"`
	Secret string `json:"session_secret"`
	// Incarnation stays 1: single steps are one run of one script.
	Incarnation uint64 `json:"incarnation"`
	Seq         uint64 `json:"seq"`
	// Opened is true once a checkout was granted. Until then every checkout is the
	// session's first request.
	Opened bool   `json:"opened"`
	Tenant string `json:"tenant,omitempty"`

	file   string
	minted bool
}

// maxStateBytes bounds a state file; a real one has some 200 bytes.
const maxStateBytes = 64 << 10

// openSession is for checkout: the session of the flags, or a new one.
func (a *app) openSession(f sessionFlags) (*session, error) {
	if f.state != "" {
		s, err := loadState(f)
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	} else if f.id != "" {
		return a.resumeSession(f)
	}
	var id, secret [16]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	return &session{
		ID: hex.EncodeToString(id[:]), Secret: hex.EncodeToString(secret[:]),
		Incarnation: 1, file: f.state, minted: true,
	}, nil
}

// resumeSession is for renew and checkin: the session must be known.
func (a *app) resumeSession(f sessionFlags) (*session, error) {
	if f.state != "" {
		s, err := loadState(f)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, exitf(exitError1, "%s is not there: take a seat first with seatkeeper checkout FEATURE --state %s", f.state, f.state)
		}
		return s, err
	}
	if f.id == "" {
		return nil, usagef("which session? add --state FILE, or --session ID with its secret in SEATKEEPER_SESSION_SECRET")
	}
	if _, err := lease.ParseSessionID(f.id); err != nil {
		return nil, usagef("%w", err)
	}
	secret, err := a.sessionSecret(f)
	if err != nil {
		return nil, err
	}
	return &session{ID: f.id, Secret: secret}, nil
}

func (a *app) sessionSecret(f sessionFlags) (string, error) {
	var data []byte
	var err error
	switch f.secretFile {
	case "":
		if s, ok := a.lookupEnv("SEATKEEPER_SESSION_SECRET"); ok && s != "" {
			return s, nil
		}
		return "", usagef("no secret for session %s: put it into SEATKEEPER_SESSION_SECRET or a file named by --secret-file", f.id)
	case "-":
		data, err = io.ReadAll(io.LimitReader(a.stdin, maxStateBytes))
	default:
		data, err = readLimited(f.secretFile, maxStateBytes)
	}
	if err != nil {
		return "", exitf(exitError1, "%s: %s", f.secretFile, fileMessage(err))
	}
	return strings.TrimSpace(string(data)), nil
}

func loadState(f sessionFlags) (*session, error) {
	if f.id != "" {
		return nil, usagef("--state holds the session id already: leave out --session")
	}
	data, err := readLimited(f.state, maxStateBytes)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, exitf(exitError1, "%s: %s", f.state, fileMessage(err))
	}
	s := &session{file: f.state}
	if err := json.Unmarshal(data, s); err != nil || s.ID == "" || s.Secret == "" {
		return nil, exitf(exitError1, "%s is no session state: remove it and check out again", f.state)
	}
	return s, nil
}

// next numbers the next request. The number is on disk before the request leaves, so
// that no two requests ever share it. Without a state file requests after the first
// are not numbered.
func (s *session) next() (uint64, error) {
	if s.file == "" && !s.minted {
		return 0, nil
	}
	if s.Opened {
		s.Seq++
	} else {
		s.Seq = 1
	}
	if s.file == "" {
		return s.Seq, nil
	}
	return s.Seq, s.save()
}

// keep remembers that the cluster knows the session.
func (s *session) keep(tenant string) error {
	if s.file == "" || s.Opened {
		return nil
	}
	s.Opened, s.Tenant = true, tenant
	return s.save()
}

// save replaces the state file in one step.
func (s *session) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return exitf(exitError1, "cannot keep the session in %s: %s", s.file, fileMessage(err))
	}
	// CreateTemp makes the file with mode 0600.
	f, err := os.CreateTemp(filepath.Dir(s.file), ".seatkeeper-*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), s.file); err != nil {
		return fail(err)
	}
	return nil
}

// forget removes the state of a session that was closed.
func (s *session) forget() error {
	if s.file == "" {
		return nil
	}
	return os.Remove(s.file)
}

// explain adds to an error of the API what it means for this session's state file.
func (s *session) explain(err error) error {
	err = apiError(err)
	var e *exitError
	if s.file == "" || !errors.As(err, &e) {
		return err
	}
	if reasonOf(err) == string(lease.SessionUnknown) {
		e.err = fmt.Errorf("%w: it was closed or reclaimed; remove %s and check out again", e.err, s.file)
	}
	return err
}
