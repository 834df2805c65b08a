package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// logVersion words what a node understands; one that does not answer says nothing.
func logVersion(v uint32) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprint(v)
}

// upgradeState is how far a rolling upgrade is.
type upgradeState struct {
	// LogVersion is what the cluster is at, Next what it could be at if every node were of
	// the newest build among them.
	LogVersion uint32        `json:"log_version"`
	Next       uint32        `json:"next_log_version"`
	Done       bool          `json:"done"`
	Nodes      []upgradeNode `json:"nodes"`
}

// upgradeNode is one node of it.
type upgradeNode struct {
	ID         string `json:"id"`
	Role       string `json:"role"`
	Version    string `json:"version"`
	LogVersion uint32 `json:"log_version"` // what it understands; 0: it does not answer
	ToDo       string `json:"to_do"`       // empty: nothing
}

// upgradeStateOf says of each node whether it is to be upgraded before the others' version
// of the log can be used, followers first.
func upgradeStateOf(st *pb.StatusResponse) upgradeState {
	s := upgradeState{LogVersion: st.LogVersion, Next: st.LogVersion, Done: true}
	for _, n := range st.Nodes {
		s.Next = max(s.Next, n.LogVersion)
	}
	for _, n := range st.Nodes {
		x := upgradeNode{ID: n.Id, Role: n.Role, Version: n.Version, LogVersion: n.LogVersion}
		switch {
		case n.LogVersion == 0:
			x.ToDo = "start it, or remove it from the members"
		case n.LogVersion < s.Next && n.Role == "leader":
			x.ToDo = "upgrade it last"
		case n.LogVersion < s.Next:
			x.ToDo = "upgrade it"
		}
		s.Done = s.Done && x.ToDo == ""
		s.Nodes = append(s.Nodes, x)
	}
	s.Done = s.Done && s.Next == s.LogVersion
	slices.SortStableFunc(s.Nodes, func(a, b upgradeNode) int {
		return cmp.Compare(order(a), order(b))
	})
	return s
}

func order(n upgradeNode) int {
	switch {
	case n.ToDo == "":
		return 2
	case n.Role == "leader":
		return 1
	}
	return 0
}

func (a *app) upgradeStateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade",
		Short: "Show how far a rolling upgrade is, and which node is next",
		Long: `Shows the build of each node and the version of the log that it understands, and the
version that the cluster is at. A new kind of command is refused until every member
understands it; the cluster's version then rises by itself, and there is no way back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			st, err := leaderStatus(cmd.Context(), c, &pb.StatusRequest{Tenant: a.cfg.Client.Tenant})
			if err != nil {
				return apiError(err)
			}
			s := upgradeStateOf(st)
			return a.print(s, func(t *table) { drawUpgrade(t, s) })
		},
	}
}

func drawUpgrade(t *table, s upgradeState) {
	switch {
	case s.Done:
		t.text("the cluster is at log version %d, and every node understands it", s.LogVersion)
	case s.Next == s.LogVersion:
		t.text("the cluster is at log version %d; not every node answers", s.LogVersion)
	default:
		t.text("the cluster is at log version %d; it rises to %d when every node understands that", s.LogVersion, s.Next)
	}
	t.text("")
	t.row("NODE", "ROLE", "VERSION", "LOG", "TO DO")
	for _, n := range s.Nodes {
		t.row(n.ID, n.Role, cmp.Or(n.Version, "-"), logVersion(n.LogVersion), cmp.Or(n.ToDo, "-"))
	}
}
