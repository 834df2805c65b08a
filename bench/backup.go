package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Rows and values of a backup under load.
const (
	RowBackup       = "cycle while a backup is read"
	ValueBackup     = "backup: bytes"
	ValueBackupTime = "backup: time to read it"
)

// backup reads a backup of the whole state under load: what others feel of it is in
// its row, above all in the maximum.
func (m Million) backup(ctx context.Context, t *Target, r *load.Report) error {
	w, err := t.Dial(ctx, 1)
	if err != nil {
		return err
	}
	defer w.Close()
	type answer struct {
		bytes int
		took  time.Duration
		err   error
	}
	came := make(chan answer, 1)
	go func() {
		pause(ctx, m.Warmup)
		began := time.Now()
		n, err := w.readBackup(ctx)
		came <- answer{n, time.Since(began), err}
	}()
	rows, err := m.cycle(ctx, t, RowBackup, m.Duration)
	if err != nil {
		return err
	}
	got := <-came
	if got.err != nil {
		return fmt.Errorf("reading a backup: %w", got.err)
	}
	r.Rows = append(r.Rows, rows...)
	r.Add(ValueBackup, float64(got.bytes), "bytes")
	r.Add(ValueBackupTime, got.took.Seconds(), "s")
	return nil
}

// readBackup reads a backup from the leader and throws it away.
func (w *Wire) readBackup(ctx context.Context) (int, error) {
	cc, err := w.conn(0)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(w.target.signed(ctx), restartBound)
	defer cancel()
	stream, err := pb.NewOperatorClient(cc).SnapshotSave(ctx, &pb.SnapshotSaveRequest{})
	if err != nil {
		return 0, err
	}
	for n := 0; ; {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n += len(part.Data)
	}
}
