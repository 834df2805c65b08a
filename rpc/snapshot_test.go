package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Backup and Restore of the fake: a state machine with nothing in it.
func (n *fakeNode) Backup(context.Context) (*fsm.Backup, error) {
	if !n.Leading() {
		return nil, &cluster.NotLeaderError{Leader: n.epoch}
	}
	return fsm.New(fsm.Options{}).Backup(n.id, "test", time.Unix(0, 0)), nil
}

func (n *fakeNode) Restore(_ context.Context, backup io.Reader, o cluster.RestoreOptions) (cluster.Restored, error) {
	n.mu.Lock()
	fail := n.fail
	n.mu.Unlock()
	if fail != nil {
		return cluster.Restored{}, fail
	}
	b, err := fsm.ReadBackup(backup)
	if err != nil {
		return cluster.Restored{}, errors.Join(cluster.ErrBadBackup, err)
	}
	if o.By == "" {
		return cluster.Restored{}, errors.New("nobody asked")
	}
	return cluster.Restored{Backup: b.Header, Sum: b.Sum, Index: 7, Fence: time.Minute}, nil
}

// upload sends a file in pieces of a few bytes.
func upload(t *testing.T, a *api, file []byte) (*pb.SnapshotRestoreResponse, error) {
	t.Helper()
	stream, err := pb.NewOperatorClient(a.dial(t)).SnapshotRestore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for len(file) > 0 {
		n := min(len(file), 100)
		if stream.Send(&pb.SnapshotRestoreRequest{Data: file[:n]}) != nil {
			break
		}
		file = file[n:]
	}
	return stream.CloseAndRecv()
}

func download(t *testing.T, a *api) ([]byte, error) {
	t.Helper()
	stream, err := pb.NewOperatorClient(a.dial(t)).SnapshotSave(t.Context(), &pb.SnapshotSaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		file.Write(m.GetData())
	}
}

func TestBackupGoesOutAndBackIn(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	file, err := download(t, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.ReadBackup(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	r, err := upload(t, a, file)
	if err != nil || r.RaftIndex != 7 || r.CheckoutsWaitMs != 60_000 || len(r.Sha256) != 64 {
		t.Errorf("%v, %v", r, err)
	}
	got := a.call(t, http.MethodGet, "/v1/snapshot", "")
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(got.text, string(file[:8])) {
		t.Errorf("GET /v1/snapshot: %d, %v", got.status, got.header)
	}
	for _, method := range []string{http.MethodPost, http.MethodHead} {
		if got := a.call(t, method, "/v1/snapshot", ""); got.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, got.status)
		}
	}
}

func TestBadUploadIsRefusedForGood(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	file, err := download(t, a)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(file)
	flipped[len(flipped)-40] ^= 1
	for name, bad := range map[string][]byte{"nothing": nil, "text": []byte("this is no backup at all"), "cut": file[:len(file)-5], "flipped": flipped} {
		_, err := upload(t, a, bad)
		problem := problemOf(status.Convert(err))
		if status.Code(err) != codes.InvalidArgument || problem.Reason != string(lease.Invalid) || !problem.Final {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOutcomesOfARestoreStayApart(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	for _, c := range []struct {
		fail   error
		code   codes.Code
		reason lease.Reason
	}{
		{cluster.ErrRestoring, codes.ResourceExhausted, lease.Overloaded},
		{cluster.ErrNotApplied, codes.Unavailable, NotLeader},
		{cluster.ErrUnknown, codes.Unknown, UnknownOutcome},
	} {
		node.set(func() { node.fail = c.fail })
		_, err := upload(t, a, []byte("x"))
		if p := problemOf(status.Convert(err)); status.Code(err) != c.code || p.Reason != string(c.reason) {
			t.Errorf("%v: %v, %v", c.fail, err, p)
		}
	}
}

func TestBackupsAreTheLeadersBusiness(t *testing.T) {
	node := newFakeNode(t)
	node.leading, node.epoch = false, fsm.Epoch{Index: 3, Term: 2, Node: "n2-00000002", APIAddress: "n2:7800"}
	a := startAPI(t, node, nil)
	_, errDown := download(t, a)
	_, errUp := upload(t, a, []byte("x"))
	for _, err := range []error{errDown, errUp} {
		if _, to := details(status.Convert(err)); to.GetLeaderAddress() != "n2:7800" || status.Code(err) != codes.Unavailable {
			t.Errorf("%v", err)
		}
	}
	got := callWith(t, noRedirect(t), http.MethodGet, "http://"+a.addr+"/v1/snapshot", "")
	if got.status != http.StatusTemporaryRedirect || got.header.Get("Location") != "http://n2:7800/v1/snapshot" {
		t.Errorf("%d to %s", got.status, got.header.Get("Location"))
	}
}

// A reader that takes nothing holds one of few places; the next is told so.
func TestBackupsAtOnceAreBounded(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	for range maxSaves {
		a.operator.saves <- struct{}{}
	}
	if _, err := download(t, a); problemOf(status.Convert(err)).Reason != string(lease.Overloaded) {
		t.Errorf("%v", err)
	}
}
