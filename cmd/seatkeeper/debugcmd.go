package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/cluster"
)

func (a *app) debugCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "debug",
		Short: "Look inside one node",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.debugLogCommand(), a.debugBundleCommand())
	return cmd
}

func (a *app) debugLogCommand() *cobra.Command {
	var dataDir, file string
	var r cluster.Replay
	cmd := &cobra.Command{
		Use:   "log (--data-dir DIR | --file FILE)",
		Short: "Print what one node applied: index, term, time, commands, results, hash",
		Long: `Prints the log as one node applied it, one JSON object a line; 64-bit numbers are
strings. Secrets are not in it.

--data-dir replays the data directory of a stopped node: the state that its log begins
from, as {"snapshot": …}, then every entry that the node had certainly applied. --tail
adds the entries after these, marked "uncertain": they may never have been committed.

--file prints the file that a server keeps with --audit-log, of a running node too. It
also holds {"run": …} at each start of the server, after which entries are applied again
from the newest snapshot on, and {"dropped": n} where the disk was too slow.`,
		Args:        cobra.NoArgs,
		Annotations: noSettings(),
		RunE: func(*cobra.Command, []string) error {
			if (dataDir == "") == (file == "") {
				return usagef("name one of --data-dir (of a stopped node) and --file (written by --audit-log)")
			}
			if r.To > 0 && r.From > r.To {
				return usagef("--from %d is after --to %d", r.From, r.To)
			}
			out := bufio.NewWriter(a.stdout)
			var err error
			if dataDir != "" {
				err = cluster.ReplayLog(dataDir, r, out)
			} else {
				err = printApplied(file, r, out)
			}
			return errors.Join(err, out.Flush())
		},
	}
	f := cmd.Flags()
	f.StringVar(&dataDir, "data-dir", "", "data directory of a stopped node")
	f.StringVar(&file, "file", "", "file that a server wrote with --audit-log")
	f.Uint64Var(&r.From, "from", 0, "first raft index (default: all)")
	f.Uint64Var(&r.To, "to", 0, "last raft index (default: all)")
	f.BoolVar(&r.Tail, "tail", false, "with --data-dir: also entries that may not be committed")
	return cmd
}

// printApplied copies the lines of a file that a running server may be writing.
func printApplied(file string, r cluster.Replay, out io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("%s: %s", file, fileMessage(err))
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a last line without an end is still being written
		}
		if err != nil {
			return fmt.Errorf("%s: %s", file, fileMessage(err))
		}
		var entry struct {
			Index uint64 `json:"index,string"`
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return fmt.Errorf("%s:%d: this is no line of an applied log: %w", file, n, err)
		}
		if entry.Index > 0 && (entry.Index < r.From || r.To > 0 && entry.Index > r.To) {
			continue
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}
