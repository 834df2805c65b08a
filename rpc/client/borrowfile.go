package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
)

// What a borrowed seat is verified by offline is kept in a folder: a file for each seat,
// and beside them the public keys of the cluster. All are for this user alone (0600).
const (
	keysFile      = "jwks.json"
	seatSuffix    = ".seat.json"
	borrowVersion = 1
	// maxSeatFile bounds what is read: a token and some times.
	maxSeatFile = 64 << 10
	// clockSlack is how far a clock may go back unnoticed: what a time service corrects.
	clockSlack = time.Minute
	// seenStep is how much later it must be for the highest time seen to be written anew.
	seenStep = time.Second
)

// BorrowFolder is where borrowed seats are kept if nobody says where: in the user's
// configuration folder (os.UserConfigDir), under seatkeeper/borrowed.
func BorrowFolder() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no folder for borrowed seats: %w", err)
	}
	return filepath.Join(dir, "seatkeeper", "borrowed"), nil
}

// savedSeat is the file of one seat.
type savedSeat struct {
	Version int `json:"version"`
	// SessionID and Secret are of the one request that borrowed it. They are on the disk
	// before it is sent: if its answer is lost, the same request is sent again.
	SessionID string `json:"session_id"`
	Secret    string `json:"session_secret"`
	Asked     asked  `json:"asked"`
	// Held: the session is one that held the seat before.
	Held bool `json:"held,omitempty"`
	// Token is empty until the answer is here.
	Token string `json:"token,omitempty"`
	// NotAfter bounds the use by this machine's own clock: its time when the request was
	// sent, and what the answer said remains.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Seen is the latest time that this machine's clock ever showed.
	Seen time.Time `json:"seen,omitzero"`
	// Returning: it is being given back, and may not be used any more.
	Returning bool `json:"returning,omitempty"`
}

// asked is what was asked for.
type asked struct {
	Feature  string         `json:"feature"`
	Version  string         `json:"version,omitempty"`
	Count    int            `json:"count"`
	Term     time.Duration  `json:"term_ns"`
	Instance string         `json:"instance_id,omitempty"`
	Holder   offline.Holder `json:"holder"`
	Tenant   string         `json:"tenant,omitempty"`
}

// BorrowedSeat is a seat that may be used without network until its end. It is not safe
// for concurrent use, but Valid is.
type BorrowedSeat struct {
	// Claims are what its token says; whether that is true, Verify says.
	Claims offline.Claims
	path   string
	saved  savedSeat
	keys   offline.Keys
	wall   func() time.Time
	clock  func() Instant
	// until is when a verified seat ends, by the clock that counts suspend.
	until Instant
}

// Path is the file of the seat.
func (s *BorrowedSeat) Path() string { return s.path }

// Until is when its use ends: as the token says, or earlier by this machine's clock.
func (s *BorrowedSeat) Until() time.Time {
	until := s.Claims.Until()
	if !s.saved.NotAfter.IsZero() && s.saved.NotAfter.Before(until) {
		return s.saved.NotAfter
	}
	return until
}

// RenewDue says whether the time has come to renew it while online.
func (s *BorrowedSeat) RenewDue() bool { return !s.wall().Before(s.renewAt()) }

func (s *BorrowedSeat) renewAt() time.Time { return s.Until().Add(-s.Claims.Term() / 2) }

// Verify says whether h may use the seat now, asking nobody: signature, times and
// holder. The error is an *offline.Error. It remembers the latest time that the clock
// showed, so that a clock that is wound back ends the use (until it is right again).
func (s *BorrowedSeat) Verify(h offline.Holder) error {
	s.until = 0
	c, err := offline.Read(s.saved.Token, s.keys)
	if err != nil {
		return err
	}
	s.Claims = c
	now := s.wall()
	switch {
	case s.saved.Returning:
		return &offline.Error{Code: offline.Expired, Message: "the seat of " + c.Feature + " is being returned; borrow it again"}
	case now.Before(s.saved.Seen.Add(-clockSlack)):
		return &offline.Error{Code: offline.ClockBack, Message: fmt.Sprintf("the clock shows %s, but it was %s before: set it right", now.UTC().Format(time.RFC3339), s.saved.Seen.UTC().Format(time.RFC3339))}
	}
	if err := c.At(now); err != nil {
		return err
	}
	if !now.Before(s.Until()) {
		return c.At(c.Until()) // over by this machine's clock
	}
	if err := c.For(h); err != nil {
		return err
	}
	if now.After(s.saved.Seen.Add(seenStep)) {
		if err := s.see(now); err != nil {
			return &offline.Error{Code: offline.Unreadable, Message: "the time cannot be remembered, which a borrowed seat needs: " + err.Error()}
		}
	}
	s.until = s.clock().Add(s.Until().Sub(now))
	return nil
}

// Valid says whether a seat that was verified may still be used: by the clock that counts
// suspend, which nobody winds back while the process runs.
func (s *BorrowedSeat) Valid() bool { return s.until != 0 && s.clock() < s.until }

// Covers says whether the seat is for the item: its feature, at its version or later, with
// enough seats.
func (s *BorrowedSeat) Covers(it Item) bool {
	return s.Claims.Feature == it.Feature && lease.CompareVersions(s.Claims.Version, it.Version) >= 0 && s.Claims.Count >= max(1, it.Count)
}

// BorrowedSeats reads the seats of a folder, those that end first first. One whose file is
// damaged, or whose answer never came, is not among them.
func BorrowedSeats(dir string) ([]*BorrowedSeat, error) {
	all, err := readSeats(dir)
	if err != nil {
		return nil, err
	}
	seats := slices.DeleteFunc(all, func(s *BorrowedSeat) bool { return s.saved.Token == "" })
	slices.SortStableFunc(seats, func(x, y *BorrowedSeat) int {
		return cmp.Or(cmp.Compare(x.Claims.Expires, y.Claims.Expires), cmp.Compare(x.path, y.path))
	})
	return seats, nil
}

// FindBorrowed gives the seat of a folder that h may use for the item, the one that lasts
// longest. The error is that of the best one that h may not use; if there is none at all,
// it wraps fs.ErrNotExist.
func FindBorrowed(dir string, it Item, h offline.Holder) (*BorrowedSeat, error) {
	seats, err := BorrowedSeats(dir)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("no seat of %s is borrowed on this machine: %w", it.Feature, fs.ErrNotExist)
	for _, s := range slices.Backward(seats) {
		if s.Covers(it) {
			e := s.Verify(h)
			if e == nil {
				return s, nil
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = e
			}
		}
	}
	return nil, err
}

func readSeats(dir string) ([]*BorrowedSeat, error) {
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*"+seatSuffix))
	if err != nil {
		return nil, err
	}
	var keys offline.Keys
	data, err := readSmall(filepath.Join(dir, keysFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if keys, err = offline.ParseKeys(data); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, keysFile), err)
		}
	}
	var seats []*BorrowedSeat
	for _, name := range names {
		s := newSeat(name, keys)
		if data, err := readSmall(name); err != nil || json.Unmarshal(data, &s.saved) != nil || s.saved.Version != borrowVersion {
			continue
		}
		s.Claims, _ = offline.Peek(s.saved.Token)
		seats = append(seats, s)
	}
	return seats, nil
}

func newSeat(path string, keys offline.Keys) *BorrowedSeat {
	return &BorrowedSeat{path: path, keys: keys, wall: time.Now, clock: SystemClock}
}

// escapeGlob takes the meaning from characters of a folder's name.
func escapeGlob(dir string) string {
	if os.PathSeparator == '\\' {
		return dir // there is no escape, and no such name
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSeatFile {
		return nil, fmt.Errorf("%s: not a file of a borrowed seat", path)
	}
	return os.ReadFile(path)
}

// seatFiles lets one goroutine at a time change a file: to note the time must not undo a
// renewal. Another process may still come between; its renewal is then made again.
var seatFiles sync.Mutex

// see remembers the latest time that the clock showed.
func (s *BorrowedSeat) see(now time.Time) error {
	seatFiles.Lock()
	defer seatFiles.Unlock()
	s.saved.Seen = now
	fresh := *s
	if data, err := readSmall(s.path); err == nil && json.Unmarshal(data, &fresh.saved) == nil {
		fresh.saved.Seen = later(fresh.saved.Seen, now)
	}
	return fresh.save()
}

// save replaces the file of the seat in one step.
func (s *BorrowedSeat) save() error {
	s.saved.Version = borrowVersion
	data, err := json.Marshal(s.saved)
	if err != nil {
		return err
	}
	return keepFile(s.path, data)
}

// keepFile replaces a file, for this user alone.
func keepFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return (&stateFile{path: path}).replace(append(data, '\n'))
}

// forget removes the file of the seat.
func (s *BorrowedSeat) forget() error {
	s.until = 0
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
