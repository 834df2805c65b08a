package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/cluster"
)

func (a *app) recoverCommand() *cobra.Command {
	var yes, dryRun bool
	var fence time.Duration
	cmd := &cobra.Command{
		Use:   "recover --config FILE",
		Short: "Go on with one node after a majority was lost for good (offline)",
		Long: `Makes the node of this config file, which must be stopped, the only voter of its cluster,
which goes on with what this node knows. Only for when a majority of voters is lost for
good; if there is a choice, take the node with the highest index (--dry-run shows it).

What the lost nodes acknowledged and this one never heard of is lost. So that no seat is
issued twice all the same, checkouts wait until every lease that may have been granted has
run out; sessions that this node knows get a whole term; fencing tokens never go back.
The old files are kept in the data directory.

Never start the other old nodes again with their data: they end themselves when they hear
of the recovery, but two that hear only of each other would be a second cluster. Empty
their data directories; they join as new members.`,
		Args:        cobra.NoArgs,
		Annotations: noSettings(),
		RunE: func(*cobra.Command, []string) error {
			l, err := a.loadServerConfig(nil)
			if err != nil {
				return err
			}
			a.cfg = l
			if err := checkFormat(l.Client.Format); err != nil {
				return err
			}
			if fence < 0 {
				return usagef("--fence %v: want the longest lifespan and grace that a licence gives", fence)
			}
			return a.recoverNode(l, fence, yes, dryRun)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "do not ask for a confirmation")
	f.BoolVar(&dryRun, "dry-run", false, "only show what would be done, and lost")
	f.DurationVar(&fence, "fence", 0, "for how long checkouts wait, if you know that no licence gives a longer lifespan and grace (default: the longest that this node knows, at least 4m)")
	return cmd
}

func (a *app) recoverNode(l *loadedConfig, fence time.Duration, yes, dryRun bool) error {
	r, err := cluster.OpenRecovery(cluster.RecoverOptions{
		DataDir: l.DataDir, Name: l.Name, RaftAddress: advertised(l.Raft.Bind, l.Raft.Advertise), Fence: fence,
	})
	if err != nil {
		return exitf(exitError1, "not recovered: %w", err)
	}
	defer r.Close()
	if dryRun {
		return a.print(r.Plan, func(t *table) { drawRecovery(t, r.Plan) })
	}
	if err := a.confirmRecovery(r.Plan, yes); err != nil {
		return err
	}
	kept, err := r.Commit()
	if err != nil {
		return exitf(exitError1, "%w", err)
	}
	done := struct {
		cluster.RecoveryPlan
		Kept string `json:"kept"`
	}{r.Plan, kept}
	return a.print(done, func(t *table) {
		t.text("recovered: %s is now %s and the only voter; the old files are in %s", r.Plan.OldID, r.Plan.NewID, kept)
		t.text("start it, wait until seatkeeper status names it as leader, then start the others with empty data directories")
	})
}

// confirmRecovery shows the plan and asks at a terminal; elsewhere it takes --yes.
func (a *app) confirmRecovery(p cluster.RecoveryPlan, yes bool) error {
	if yes {
		return nil
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return usagef("a recovery loses what only the lost nodes knew: look at it with --dry-run, then add --yes")
	}
	t := newTable(a.stderr)
	drawRecovery(t, p)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprint(a.stderr, "Type yes to go on: ")
	answer, _ := bufio.NewReader(in).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return exitf(exitError1, "nothing was changed")
	}
	return nil
}

func drawRecovery(t *table, p cluster.RecoveryPlan) {
	at := "of unknown time"
	if !p.LastAt.IsZero() {
		at = fmt.Sprintf("written %s (%s ago)", p.LastAt.Local().Format("2006-01-02 15:04:05"), time.Since(p.LastAt).Round(time.Second))
	}
	t.text("node %s of cluster %s, data directory %s", p.OldID, p.ClusterID, p.DataDir)
	t.text("its log ends at raft index %d, term %d, %s", p.LastIndex, p.LastTerm, at)
	if p.Uncertain > 0 {
		t.text("the last %d entries may never have been acknowledged: they count from now on", p.Uncertain)
	}
	t.text("LOST: whatever the other nodes acknowledged after that; nobody can say what")
	t.text("kept: %d sessions, %d leases, %d seats in use, %d licences", p.Sessions, p.Leases, p.Seats, p.Licences)
	t.text("")
	t.row("MEMBER UNTIL NOW", "RAFT ADDRESS", "VOTER", "TAKES CONNECTIONS")
	for _, m := range p.Members {
		t.row(m.ID, m.Address, yesNo(m.Voter), yesNo(m.Answers))
	}
	t.text("")
	t.text("afterwards: one voter, %s at %s; checkouts wait for %v", p.NewID, p.Address, time.Duration(p.FenceMs)*time.Millisecond)
	t.text("the other old nodes must never run again with their data")
}
