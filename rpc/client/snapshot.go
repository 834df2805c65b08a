package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// transferLimit bounds one transfer of a backup where the context does not: half a
	// gigabyte over a slow line.
	transferLimit = time.Hour
	// uploadPiece is the size of one message of an upload.
	uploadPiece = 64 << 10
)

// SaveSnapshot writes a backup of the cluster to w. After an error what was written is no
// backup; its checksum, which is its end, is missing.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) error {
	written := false
	return c.transfer(ctx, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		stream, err := pb.NewOperatorClient(cc).SnapshotSave(ctx, &pb.SnapshotSaveRequest{}, opts...)
		for err == nil {
			var m *pb.SnapshotSaveResponse
			if m, err = stream.Recv(); err == nil {
				written = true
				if _, err := w.Write(m.GetData()); err != nil {
					return &localError{err}
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case written:
			return &localError{&Error{Reason: Unreachable, Message: "the transfer broke off", Cause: err}}
		}
		return err
	})
}

// RestoreSnapshot makes the backup the state of the cluster. The reason of an error is
// lease.Invalid if the backup cannot be restored there, lease.Overloaded while another
// restore is under way, and UnknownOutcome if nobody knows whether it became the state;
// after all others nothing has changed.
func (c *Client) RestoreSnapshot(ctx context.Context, backup io.ReadSeeker, forceClusterID bool) (r *pb.SnapshotRestoreResponse, err error) {
	err = c.transfer(ctx, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		if _, err := backup.Seek(0, io.SeekStart); err != nil {
			return &localError{err}
		}
		stream, err := pb.NewOperatorClient(cc).SnapshotRestore(ctx, opts...)
		if err != nil {
			return err
		}
		buf := make([]byte, uploadPiece)
		for first := true; ; first = false {
			n, err := io.ReadFull(backup, buf)
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return &localError{err}
			}
			if n == 0 && !first {
				break
			}
			if stream.Send(&pb.SnapshotRestoreRequest{Data: buf[:n], ForceClusterId: first && forceClusterID}) != nil {
				break // the answer says why
			}
		}
		r, err = stream.CloseAndRecv()
		return err
	})
	return r, err
}

// localError is trouble on this side: no node can help.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// transfer finds the leader by a call that only the leader answers, and then tries send
// there first: a stream to a node that is cut off would take long to fail.
func (c *Client) transfer(ctx context.Context, send try) error {
	if _, err := c.Cluster().Status(ctx, &pb.StatusRequest{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, transferLimit)
	defer cancel()
	var local *localError
	_, err := c.do(ctx, plan{once: true, attempt: transferLimit, laps: c.cfg.RetryCount, tellBusy: true},
		func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
			err := send(ctx, cc, opts...)
			if errors.As(err, &local) {
				return nil // told below
			}
			return err
		})
	if local != nil {
		return local.error
	}
	return err
}
