package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/fsm"
)

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Back the cluster up, and restore a backup",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.snapshotSaveCommand(), a.snapshotRestoreCommand(), a.snapshotInspectCommand())
	return cmd
}

// snapshotInfo is what the commands print of a backup.
type snapshotInfo struct {
	fsm.BackupHeader
	File   string `json:"file"`
	Size   int64  `json:"size,string"`
	SHA256 string `json:"sha256"`
}

// readSnapshotFile opens and checks a backup; whole also decodes the state in it.
func readSnapshotFile(name string, whole bool) (info snapshotInfo, err error) {
	f, err := os.Open(name)
	if err != nil {
		return info, exitf(exitError1, "%s: %s", name, fileMessage(err))
	}
	defer f.Close()
	read := fsm.CheckBackup
	if whole {
		read = fsm.ReadBackup
	}
	b, err := read(f)
	if err != nil {
		return info, exitf(exitError1, "%s: %w", name, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return info, exitf(exitError1, "%s: %s", name, fileMessage(err))
	}
	return snapshotInfo{b.Header, name, size, hex.EncodeToString(b.Sum[:])}, nil
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Write a backup of the cluster to a new file",
		Long: `Asks the leader for a backup with everything that was acknowledged before, checks it
and puts it into FILE, which only its owner can read. Licences, sessions and leases are
in it, and only digests of session secrets.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := a.saveSnapshot(cmd.Context(), args[0], force)
			if err != nil {
				return err
			}
			return a.print(info, func(t *table) {
				t.text("saved %s: raft index %d, %s, sha256 %s", info.File, info.Index, byteCount(info.Size), info.SHA256)
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	return cmd
}

func (a *app) saveSnapshot(ctx context.Context, name string, force bool) (info snapshotInfo, err error) {
	if _, err := os.Lstat(name); err == nil && !force {
		return info, exitf(exitError1, "%s is there already: choose another name, or add --force", name)
	}
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return info, exitf(exitError1, "%s: %s", tmp, fileMessage(err))
	}
	defer func() {
		f.Close()
		os.Remove(tmp) // gone already if all went well
	}()
	c, err := a.dial(0)
	if err != nil {
		return info, err
	}
	defer c.Close()
	bar := a.newBar("saving", 0)
	out := bufio.NewWriterSize(f, 1<<20)
	err = c.client.SaveSnapshot(ctx, io.MultiWriter(out, bar))
	bar.end()
	if err != nil {
		return info, apiError(err)
	}
	if err := errors.Join(f.Chmod(0o600), out.Flush(), f.Sync()); err != nil {
		return info, exitf(exitError1, "%s: %s", tmp, fileMessage(err))
	}
	info, err = readSnapshotFile(tmp, false)
	if newer := (*fsm.NewerError)(nil); errors.As(err, &newer) {
		return info, exitf(exitError1, "not saved: %w: use the build that the cluster runs", newer)
	}
	if err != nil {
		return info, fmt.Errorf("what the cluster sent is not whole: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return info, exitf(exitError1, "%s: %w", name, err)
	}
	syncFolder(filepath.Dir(name))
	info.File = name
	return info, nil
}

// syncFolder makes a new name last through a power failure, where the system can.
func syncFolder(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Check a backup and show what is in it, without a cluster",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			info, err := readSnapshotFile(args[0], true)
			if err != nil {
				return err
			}
			return a.print(info, func(t *table) {
				for _, row := range [][2]any{
					{"file", info.File}, {"size", byteCount(info.Size)}, {"sha256", info.SHA256}, {"format", info.Format},
					{"log version", max(info.LogVersion, fsm.FirstVersion)}, {"cluster", info.ClusterID}, {"raft index", info.Index}, {"term", info.Term},
					{"cluster time", time.Duration(info.ClusterTime).Round(time.Millisecond)},
					{"made", info.MadeAt.Format(time.RFC3339) + " by " + info.MadeBy + ", version " + info.Version},
					{"licences", info.Licences}, {"sessions", info.Sessions}, {"leases", info.Leases}, {"seats in use", info.SeatsInUse},
				} {
					t.row(row[0], row[1])
				}
			})
		},
	}
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var yes, forceID bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a backup the state of the cluster",
		Long: `Checks the backup, sends it to the leader, and makes it the state of every node at once.
Sessions of the backup go on, each with a whole term from then on. Sessions opened and
seats taken since the backup are forgotten; because their holders may still believe in
them, no checkout is served until they have run out. Fencing tokens and cluster time
never go back.

In a new cluster, in place of one that was lost, add --force-cluster-id: it then takes the
lost cluster's id, to which licences may be bound. Never do so while the other still runs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := readSnapshotFile(args[0], false)
			if err != nil {
				return err
			}
			if err := a.confirmRestore(info, yes); err != nil {
				return err
			}
			return a.restoreSnapshot(cmd.Context(), info, forceID)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for a confirmation")
	cmd.Flags().BoolVar(&forceID, "force-cluster-id", false, "restore a backup of another cluster, and take its cluster id")
	return cmd
}

// confirmRestore asks at a terminal; elsewhere it takes --yes.
func (a *app) confirmRestore(info snapshotInfo, yes bool) error {
	if yes {
		return nil
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return usagef("a restore forgets what happened since the backup: add --yes")
	}
	fmt.Fprintf(a.stderr, "The backup of %s (%s ago) replaces the state of the cluster: sessions and leases since then are forgotten.\nType yes to go on: ",
		info.MadeAt.Local().Format("2006-01-02 15:04:05"), time.Since(info.MadeAt).Round(time.Second))
	answer, _ := bufio.NewReader(in).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return exitf(exitError1, "nothing was changed")
	}
	return nil
}

func (a *app) restoreSnapshot(ctx context.Context, info snapshotInfo, forceID bool) error {
	f, err := os.Open(info.File)
	if err != nil {
		return exitf(exitError1, "%s: %s", info.File, fileMessage(err))
	}
	defer f.Close()
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	bar := a.newBar("sending", info.Size)
	r, err := c.client.RestoreSnapshot(ctx, &countedFile{f, bar}, forceID)
	bar.end()
	if err != nil {
		return apiError(err)
	}
	return a.print(r, func(t *table) {
		t.text("restored %s (raft index %d) at raft index %d: %d sessions, %d leases, sha256 %s", info.File, r.BackupRaftIndex, r.RaftIndex, r.Sessions, r.Leases, r.Sha256)
		t.text("checkouts are served again in %v, when all seats taken since the backup have run out", (time.Duration(r.CheckoutsWaitMs) * time.Millisecond).Round(time.Second))
	})
}

// countedFile shows on a bar how far it was read.
type countedFile struct {
	*os.File
	bar *bar
}

func (c *countedFile) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	_, _ = c.bar.Write(p[:n])
	return n, err
}

func (c *countedFile) Seek(offset int64, whence int) (int64, error) {
	c.bar.done = 0
	return c.File.Seek(offset, whence)
}

// transferRedraw is how often a bar is drawn again: often enough to look alive.
const transferRedraw = 100 * time.Millisecond

// bar shows on a terminal how many bytes went through; elsewhere it shows nothing.
type bar struct {
	w           io.Writer // nil: no terminal
	what        string
	done, total int64 // total 0: unknown
	drawn       time.Time
}

func (a *app) newBar(what string, total int64) *bar {
	b := &bar{what: what, total: total}
	if isTerminal(a.stderr) {
		b.w = a.stderr
	}
	return b
}

func (b *bar) Write(p []byte) (int, error) {
	b.done += int64(len(p))
	if b.w != nil && time.Since(b.drawn) >= transferRedraw {
		b.drawn = time.Now()
		fmt.Fprintf(b.w, "\r\x1b[K%s", b.text())
	}
	return len(p), nil
}

func (b *bar) text() string {
	if b.total == 0 {
		return fmt.Sprintf("%s %s", b.what, byteCount(b.done))
	}
	const width = 30
	full := int(min(b.done, b.total) * width / b.total)
	return fmt.Sprintf("%s [%s%s] %3d%% of %s", b.what, strings.Repeat("=", full), strings.Repeat(" ", width-full), min(b.done, b.total)*100/b.total, byteCount(b.total))
}

// end takes the bar away: the next line is the result.
func (b *bar) end() {
	if b.w != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

// byteCount words a size.
func byteCount(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
