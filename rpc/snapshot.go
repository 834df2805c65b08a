package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// maxSaves bounds the backups that are sent at once: each holds on to the pages of
	// the ledger as they were when it began.
	maxSaves = 2
	// snapshotChunk is the size of one message: large enough to keep a link busy, small
	// beside what a connection may buffer.
	snapshotChunk = 64 << 10
)

// backups is what the API needs of the node for backups.
type backups interface {
	// Backup freezes the state for writing, with every write acknowledged before.
	// Elsewhere than on the leader: *cluster.NotLeaderError.
	Backup(ctx context.Context) (*fsm.Backup, error)
	// Restore makes a backup the state of the cluster. Its errors are those of Propose
	// and cluster.ErrBadBackup, cluster.ErrRestoring; after all but cluster.ErrUnknown
	// nothing has changed.
	Restore(ctx context.Context, backup io.Reader, o cluster.RestoreOptions) (cluster.Restored, error)
}

// operatorService serves Operator.
type operatorService struct {
	pb.UnimplementedOperatorServer
	s     *Server
	saves chan struct{}
}

func newOperatorService(s *Server) *operatorService {
	return &operatorService{s: s, saves: make(chan struct{}, maxSaves)}
}

// answer authenticates, lets work do the call, and turns its error into a status.
func (o *operatorService) answer(ctx context.Context, method string, work func(ctx context.Context) error) error {
	start := time.Now()
	who, err := o.s.authenticate(ctx, method, nil)
	if err == nil {
		err = work(context.WithValue(ctx, callerKey{}, who))
	}
	switch {
	case errors.Is(err, cluster.ErrBadBackup):
		err = invalid(err.Error())
	case errors.Is(err, cluster.ErrRestoring):
		err = overloaded("not restored: " + err.Error())
	}
	if err == nil {
		o.s.metrics.answered(method, nil, time.Since(start))
		return nil
	}
	st := statusOf(err, o.s.cfg.Node.ID(), o.s.cfg.Node.Leader)
	o.s.metrics.answered(method, st, time.Since(start))
	return st.Err()
}

// save writes a backup in chunks; begin is called before the first.
func (o *operatorService) save(ctx context.Context, begin func(fsm.BackupHeader), w io.Writer) error {
	select {
	case o.saves <- struct{}{}:
		defer func() { <-o.saves }()
	default:
		return overloaded(fmt.Sprintf("%d backups are being sent already", maxSaves))
	}
	b, err := o.s.cfg.Node.Backup(ctx)
	if err != nil {
		return err
	}
	begin(b.Header)
	_, err = b.WriteTo(chunked{w})
	return err
}

// chunked passes on at most snapshotChunk bytes at once.
type chunked struct{ w io.Writer }

func (c chunked) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var k int
		k, err = c.w.Write(p[:min(len(p), snapshotChunk)])
		n, p = n+k, p[k:]
	}
	return n, err
}

// SnapshotSave implements pb.OperatorServer.
func (o *operatorService) SnapshotSave(_ *pb.SnapshotSaveRequest, stream grpc.ServerStreamingServer[pb.SnapshotSaveResponse]) error {
	return o.answer(stream.Context(), pb.Operator_SnapshotSave_FullMethodName, func(ctx context.Context) error {
		return o.save(ctx, func(fsm.BackupHeader) {}, o.sender(stream))
	})
}

// sender sends each write as one message. A reader that takes nothing is cut off.
func (o *operatorService) sender(stream grpc.ServerStreamingServer[pb.SnapshotSaveResponse]) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		m := &pb.SnapshotSaveResponse{Data: bytes.Clone(p)} // it may be in use when we have given up
		if err := o.within(writeTimeout, func() error { return stream.Send(m) }); err != nil {
			return 0, err
		}
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// errSlow is the other side's fault; what was to happen has not.
var errSlow = fmt.Errorf("%w: the transfer stood still for too long", cluster.ErrNotApplied)

// within bounds one step of a stream. A step that is given up ends with its stream, that
// is when the handler returns.
func (o *operatorService) within(limit time.Duration, step func() error) error {
	done := make(chan error, 1)
	go func() { done <- step() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errSlow
	case <-o.s.stopping:
		return cluster.ErrStopped
	}
}

// SnapshotRestore implements pb.OperatorServer.
func (o *operatorService) SnapshotRestore(stream grpc.ClientStreamingServer[pb.SnapshotRestoreRequest, pb.SnapshotRestoreResponse]) error {
	return o.answer(stream.Context(), pb.Operator_SnapshotRestore_FullMethodName, func(ctx context.Context) error {
		if !o.s.cfg.Node.Leading() {
			return &cluster.NotLeaderError{} // before anything is sent here in vain
		}
		in := &receiver{o: o, stream: stream}
		first, err := in.next()
		if err != nil && !errors.Is(err, io.EOF) { // nothing at all is no backup either
			return err
		}
		in.left = first.GetData()
		r, err := o.s.cfg.Node.Restore(ctx, in, cluster.RestoreOptions{TakeClusterID: first.GetForceClusterId(), By: callerOf(ctx).Name})
		if err != nil {
			return err
		}
		return stream.SendAndClose(&pb.SnapshotRestoreResponse{
			RaftIndex: r.Index, BackupRaftIndex: r.Backup.Index, Sha256: hex.EncodeToString(r.Sum[:]), ClusterId: r.Backup.ClusterID,
			Sessions: uint32(r.Backup.Sessions), Leases: uint32(r.Backup.Leases), CheckoutsWaitMs: millisUp(r.Fence),
		})
	})
}

// receiver reads the pieces of an upload.
type receiver struct {
	o      *operatorService
	stream grpc.ClientStreamingServer[pb.SnapshotRestoreRequest, pb.SnapshotRestoreResponse]
	left   []byte
}

func (r *receiver) next() (m *pb.SnapshotRestoreRequest, err error) {
	got := make(chan *pb.SnapshotRestoreRequest, 1)
	err = r.o.within(bodyTimeout, func() error {
		m, err := r.stream.Recv()
		got <- m
		return err
	})
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("%w: the upload broke off (%w)", cluster.ErrNotApplied, err)
	}
	return <-got, nil
}

func (r *receiver) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		m, err := r.next()
		if err != nil {
			return 0, err
		}
		r.left = m.GetData()
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// serveHTTP answers GET /v1/snapshot. A file that ends early is not a backup: its
// checksum is its end.
func (o *operatorService) serveHTTP(w http.ResponseWriter, r *http.Request) {
	began := false
	err := o.answer(r.Context(), pb.Operator_SnapshotSave_FullMethodName, func(ctx context.Context) error {
		conn := http.NewResponseController(w)
		return o.save(ctx, func(h fsm.BackupHeader) {
			began = true
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="seatkeeper-%d.backup"`, h.Index))
			w.Header().Set("Cache-Control", "no-store")
		}, writerFunc(func(p []byte) (int, error) {
			n, err := w.Write(p)
			_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // for the next piece
			if err != nil {
				return n, fmt.Errorf("%w: %w", cluster.ErrNotApplied, err)
			}
			return n, nil
		}))
	})
	switch {
	case err == nil:
	case began:
		panic(http.ErrAbortHandler) // the only way to tell that the end is missing
	default:
		apiError(r.Context(), nil, nil, w, r, err)
	}
}

// saveOnly keeps other methods and HEAD, which would make a backup for nothing, away.
func saveOnly(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", "GET")
			routingError(r.Context(), nil, nil, w, r, http.StatusMethodNotAllowed)
			return
		}
		next(w, r)
	})
}
