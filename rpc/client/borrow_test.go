package client

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// lender lends seats of cad and signs tokens for them.
type lender struct {
	pb.UnimplementedBorrowingServer
	private ed25519.PrivateKey

	mu       sync.Mutex
	down     bool
	lose     bool // the next answer
	refuse   error
	given    map[string]uint64 // lease by session
	renewed  int
	returned []uint64
	released map[uint64]bool
}

func newLender(t *testing.T) (*lender, *Client) {
	t.Helper()
	l := &lender{private: ed25519.NewKeyFromSeed(make([]byte, 32)), given: map[string]uint64{}, released: map[uint64]bool{}}
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	pb.RegisterBorrowingServer(srv, l)
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	c, err := New(Config{Addresses: []string{"a:1"}, RetryCount: 3, RetryInterval: time.Second, Jitter: func() float64 { return 0 }, Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.down {
			return nil, errors.New("connection refused")
		}
		return lis.DialContext(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return l, c
}

func (l *lender) jwks() string {
	text, _ := json.Marshal(offline.Keys{Keys: []offline.Key{offline.NewKey("k1", [32]byte(l.private.Public().(ed25519.PublicKey)))}})
	return string(text)
}

func (l *lender) token(id uint64, r *pb.BorrowRequest, term time.Duration) string {
	now := time.Now()
	c := offline.Claims{Issuer: offline.Issuer, Feature: r.Feature, Version: "2026.0", Count: int(r.Count), User: r.User, Host: r.Host, InstanceID: r.InstanceId,
		LeaseID: lease.ID(id), FencingToken: 7, IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(term).Unix() + 1}
	body, _ := json.Marshal(c)
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(`{"alg":"EdDSA","kid":"k1","typ":"seat+jwt"}`)) + "." + enc(body)
	return text + "." + enc(ed25519.Sign(l.private, []byte(text)))
}

func (l *lender) Borrow(_ context.Context, r *pb.BorrowRequest) (*pb.BorrowResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	id := l.given[r.SessionId]
	if id == 0 {
		id = uint64(len(l.given) + 1)
		l.given[r.SessionId] = id
	}
	if l.lose {
		return nil, status.Error(codes.Unavailable, "the connection broke")
	}
	term := time.Duration(r.TermMs) * time.Millisecond
	return &pb.BorrowResponse{Token: l.token(id, r, term), Jwks: l.jwks(), Lease: &pb.Lease{Id: id, RemainingMs: uint32(r.TermMs)}}, nil
}

func (l *lender) RenewBorrow(_ context.Context, r *pb.RenewBorrowRequest) (*pb.RenewBorrowResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := offline.Peek(r.Token)
	if !ok || l.refuse != nil {
		return nil, errors.Join(l.refuse)
	}
	l.renewed++
	ask := &pb.BorrowRequest{Feature: c.Feature, Count: int32(c.Count), User: c.User, Host: c.Host, InstanceId: c.InstanceID}
	term := max(c.Term(), time.Duration(r.TermMs)*time.Millisecond)
	return &pb.RenewBorrowResponse{Token: l.token(uint64(c.LeaseID), ask, term), Jwks: l.jwks(), Lease: &pb.Lease{Id: uint64(c.LeaseID), RemainingMs: uint32(term.Milliseconds())}}, nil
}

func (l *lender) ReturnBorrow(_ context.Context, r *pb.ReturnBorrowRequest) (*pb.ReturnBorrowResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, _ := offline.Peek(r.Token)
	if l.released[uint64(c.LeaseID)] {
		return nil, refusalOf(lease.Fenced)
	}
	l.released[uint64(c.LeaseID)] = true
	l.returned = append(l.returned, uint64(c.LeaseID))
	if l.lose {
		return nil, status.Error(codes.Unavailable, "the connection broke")
	}
	return &pb.ReturnBorrowResponse{Released: &pb.ReleasedLease{Id: uint64(c.LeaseID)}}, nil
}

func (l *lender) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func refusalOf(reason lease.Reason) error {
	st, _ := status.New(codes.Aborted, string(reason)).WithDetails(&pb.Problem{Reason: string(reason), Final: true, Message: string(reason)})
	return st.Err()
}

func borrowed(t *testing.T, c *Client, dir string) *BorrowedSeat {
	t.Helper()
	s, err := c.Borrow(context.Background(), BorrowConfig{Item: Item{Feature: "cad"}, For: time.Hour, Folder: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cad() Item { return Item{Feature: "cad", Version: "2025", Count: 1} }

// at reads the seat as another process would, whose clock shows now.
func at(t *testing.T, dir string, now time.Time) *BorrowedSeat {
	t.Helper()
	seats, err := BorrowedSeats(dir)
	if err != nil || len(seats) != 1 {
		t.Fatalf("%d seats, %v", len(seats), err)
	}
	seats[0].wall = func() time.Time { return now }
	return seats[0]
}

func TestBorrowedSeatIsUsedOffline(t *testing.T) {
	l, c := newLender(t)
	dir := filepath.Join(t.TempDir(), "a[b]")
	borrowed(t, c, dir)
	l.set(func() { l.down = true })
	s, err := FindBorrowed(dir, cad(), Here(""))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Valid() || s.RenewDue() {
		t.Errorf("valid %v, renewal due %v", s.Valid(), s.RenewDue())
	}
	for _, it := range []Item{{Feature: "mesh"}, {Feature: "cad", Version: "2027"}, {Feature: "cad", Count: 2}} {
		if _, err := FindBorrowed(dir, it, Here("")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v", it, err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*.json"))
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, info.Mode(), err)
		}
	}
	if len(files) != 2 {
		t.Errorf("kept: %v", files)
	}
}

func TestWhatIsRefusedOffline(t *testing.T) {
	now := time.Now()
	for _, x := range []struct {
		name   string
		now    time.Time
		holder offline.Holder
		change func(*BorrowedSeat)
		want   offline.Code
	}{
		{"as it is", now, Here(""), nil, ""},
		{"another host", now, offline.Holder{User: Here("").User, Host: "elsewhere"}, nil, offline.NotYours},
		{"expired", now.Add(time.Hour + 2*time.Second), Here(""), nil, offline.Expired},
		{"over by this machine's clock before the token says", now.Add(time.Hour - time.Minute), Here(""), func(s *BorrowedSeat) {
			s.saved.NotAfter = now.Add(30 * time.Minute)
		}, offline.Expired},
		{"clock far back", now.Add(-time.Hour), Here(""), nil, offline.ClockBack},
		{"clock a little back", now.Add(-time.Second), Here(""), nil, ""},
		{"clock behind the token", now.Add(-time.Hour), Here(""), func(s *BorrowedSeat) { s.saved.Seen = time.Time{} }, offline.NotYet},
		{"tampered with", now, Here(""), func(s *BorrowedSeat) {
			p := strings.Split(s.saved.Token, ".")
			body, _ := base64.RawURLEncoding.DecodeString(p[1])
			longer := strings.Replace(string(body), `"exp":1`, `"exp":9`, 1)
			s.saved.Token = p[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(longer)) + "." + p[2]
		}, offline.BadSignature},
		{"keys gone", now, Here(""), func(s *BorrowedSeat) { s.keys = offline.Keys{} }, offline.UnknownKey},
		{"being returned", now, Here(""), func(s *BorrowedSeat) { s.saved.Returning = true }, offline.Expired},
		{"nothing can be remembered", now.Add(time.Minute), Here(""), func(s *BorrowedSeat) { s.path = filepath.Join(s.path, "no", "folder") }, offline.Unreadable},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, c := newLender(t)
			dir := t.TempDir()
			borrowed(t, c, dir)
			s := at(t, dir, x.now)
			if x.change != nil {
				x.change(s)
			}
			if err := s.Verify(x.holder); offline.CodeOf(err) != x.want || s.Valid() != (x.want == "") {
				t.Errorf("%v (valid %v), want %q", err, s.Valid(), x.want)
			}
		})
	}
}

// Once the clock showed a time, an earlier one is not believed: the seat does not come
// back to life after its end.
func TestClockWoundBackRevivesNothing(t *testing.T) {
	_, c := newLender(t)
	dir := t.TempDir()
	borrowed(t, c, dir)
	now := time.Now()
	if err := at(t, dir, now.Add(50*time.Minute)).Verify(Here("")); err != nil {
		t.Fatal(err)
	}
	if err := at(t, dir, now.Add(10*time.Minute)).Verify(Here("")); offline.CodeOf(err) != offline.ClockBack {
		t.Errorf("after the clock went back: %v", err)
	}
	if err := at(t, dir, now.Add(55*time.Minute)).Verify(Here("")); err != nil {
		t.Errorf("when it is right again: %v", err)
	}
}

// While the process runs, the clock that counts suspend decides.
func TestRunningProcessNoticesTheEnd(t *testing.T) {
	_, c := newLender(t)
	dir := t.TempDir()
	borrowed(t, c, dir)
	s := at(t, dir, time.Now())
	clock := Instant(5)
	s.clock = func() Instant { return clock }
	if err := s.Verify(Here("")); err != nil || !s.Valid() {
		t.Fatal(err)
	}
	clock = clock.Add(time.Hour + 2*time.Second)
	if s.Valid() {
		t.Error("valid after its end")
	}
}

func TestLostAnswerTakesNoSecondSeat(t *testing.T) {
	l, c := newLender(t)
	dir := t.TempDir()
	l.set(func() { l.lose = true })
	cfg := BorrowConfig{Item: cad(), For: time.Hour, Folder: dir}
	if _, err := c.Borrow(context.Background(), cfg); ReasonOf(err) != UnknownOutcome {
		t.Fatal(err)
	}
	if seats, err := BorrowedSeats(dir); err != nil || len(seats) != 0 {
		t.Errorf("%d seats to use, %v", len(seats), err)
	}
	l.set(func() { l.lose = false })
	if _, err := c.Borrow(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if l.set(func() {}); len(l.given) != 1 {
		t.Errorf("%d seats were taken", len(l.given))
	}
	if _, err := c.Borrow(context.Background(), cfg); err != nil || len(l.given) != 2 {
		t.Errorf("asked for one more: %d, %v", len(l.given), err)
	}
}

func TestRefusedBorrowLeavesNothingBehind(t *testing.T) {
	l, c := newLender(t)
	dir := t.TempDir()
	l.set(func() { l.refuse = refusalOf(lease.BorrowOff) })
	if _, err := c.Borrow(context.Background(), BorrowConfig{Item: cad(), For: time.Hour, Folder: dir}); ReasonOf(err) != lease.BorrowOff {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

func TestBorrowedSeatIsRenewedAfterHalfItsTerm(t *testing.T) {
	l, c := newLender(t)
	dir := t.TempDir()
	s := borrowed(t, c, dir)
	later := time.Now().Add(31 * time.Minute)
	s.wall = func() time.Time { return later }
	if !s.RenewDue() {
		t.Fatal("renewal is not due")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	kept := make(chan error, 1)
	go func() { kept <- c.KeepBorrowed(ctx, s) }()
	deadline := time.After(10 * time.Second)
	for {
		l.mu.Lock()
		n := l.renewed
		l.mu.Unlock()
		if n > 0 {
			break
		}
		select {
		case err := <-kept:
			t.Fatal("gave up:", err)
		case <-deadline:
			t.Fatal("never renewed")
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	l.set(func() { l.refuse = refusalOf(lease.BorrowOff) })
	s.wall = func() time.Time { return later.Add(24 * time.Hour) }
	if err := c.KeepBorrowed(context.Background(), s); ReasonOf(err) != lease.BorrowOff {
		t.Errorf("refused for good: %v", err)
	}
}

func TestReturnEarly(t *testing.T) {
	l, c := newLender(t)
	dir := t.TempDir()
	s := borrowed(t, c, dir)
	l.set(func() { l.down = true })
	c.links.close() // and the connection that is there
	if err := c.ReturnBorrowed(context.Background(), s); ReasonOf(err) != Unreachable {
		t.Fatal(err)
	}
	if err := at(t, dir, time.Now()).Verify(Here("")); err != nil {
		t.Errorf("nobody heard of the return, and the seat is gone: %v", err)
	}

	l, c = newLender(t)
	dir = t.TempDir()
	s = borrowed(t, c, dir)
	l.set(func() { l.lose = true })
	if err := c.ReturnBorrowed(context.Background(), s); err != nil && ReasonOf(err) != UnknownOutcome {
		t.Fatal(err)
	} else if err != nil {
		if err := at(t, dir, time.Now()).Verify(Here("")); offline.CodeOf(err) != offline.Expired {
			t.Errorf("the return may have happened, and the seat is used: %v", err)
		}
	}
	l.set(func() { l.lose = false })
	if seats, _ := BorrowedSeats(dir); len(seats) == 1 {
		if err := c.ReturnBorrowed(context.Background(), seats[0]); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*"+seatSuffix)); len(files) != 0 || len(l.returned) != 1 {
		t.Errorf("left %v, returned %v", files, l.returned)
	}
}

// A heartbeat that was under way while a held seat was borrowed may say that the session
// holds it. Whoever believed that would give it back, while somebody uses it offline.
func TestAHeartbeatUnderWayGivesNoBorrowedSeatBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		late := make(chan struct{})
		f.set(func() {
			f.after = func(method string, _ any) error {
				if method == "renew" {
					<-late
				}
				return nil
			}
		})
		beat := make(chan error, 1)
		go func() { beat <- s.Renew(context.Background()) }()
		synctest.Wait()
		_, err := l.Borrow(t.Context(), time.Hour, t.TempDir())
		close(late)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-beat; err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // heartbeats
		if f.seatsInUse() != 1 || f.count("checkin") != 0 {
			t.Errorf("%d seats are in use after %d check-ins; one is borrowed", f.seatsInUse(), f.count("checkin"))
		}
	})
}
