package main

import (
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/cluster"
)

// auditVerdict is what audit verify says of one file.
type auditVerdict struct {
	File    string `json:"file"`
	Lines   int    `json:"lines"`
	Entries int    `json:"entries"`
	First   uint64 `json:"first_index,string"`
	Last    uint64 `json:"last_index,string"`
	Hash    string `json:"state_hash"`
	Chain   string `json:"chain"`
	Dropped int    `json:"dropped"`
}

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check the logs that servers keep with --audit-log",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "verify FILE…",
		Short: "Check that nothing in audit logs was changed, dropped or inserted",
		Long: `Follows the chain of hashes through each file. Given the files of several nodes it also
checks that they tell each entry in the same words. The last chain says that nothing was
cut off at the end either, if it was noted before.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			verdicts, err := verifyAudits(files)
			if err != nil {
				return err
			}
			return a.print(verdicts, func(t *table) {
				t.row("FILE", "LINES", "ENTRIES", "FIRST", "LAST", "DROPPED", "STATE HASH", "CHAIN")
				for _, v := range verdicts {
					t.row(v.File, v.Lines, v.Entries, v.First, v.Last, v.Dropped, short(v.Hash), v.Chain)
				}
				t.text("ok: nothing was changed, dropped or inserted")
			})
		},
	})
	return cmd
}

func short(hash string) string { return hash[:min(12, len(hash))] }

// verifyAudits checks files each by itself and against each other. It keeps a sum of each
// entry, not the entries.
func verifyAudits(files []string) ([]auditVerdict, error) {
	type told struct {
		sum  [sha256.Size]byte
		file string
	}
	entries := map[uint64]told{}
	var out []auditVerdict
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, exitf(exitError1, "%s: %s", name, fileMessage(err))
		}
		r, err := cluster.VerifyAudit(f, func(index uint64, object []byte) error {
			sum := sha256.Sum256(object)
			if before, known := entries[index]; known && before.sum != sum {
				return fmt.Errorf("entry %d is told otherwise in %s", index, before.file)
			}
			entries[index] = told{sum, name}
			return nil
		})
		f.Close()
		if err != nil {
			return nil, exitf(exitError1, "%s: %w", name, err)
		}
		if r.Lines == 0 {
			return nil, exitf(exitError1, "%s: there is no whole line in it", name)
		}
		out = append(out, auditVerdict{File: name, Lines: r.Lines, Entries: r.Entries, First: r.First, Last: r.Last, Hash: r.Hash, Chain: r.Chain, Dropped: r.Dropped})
	}
	return out, nil
}
