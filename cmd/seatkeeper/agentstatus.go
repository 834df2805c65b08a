package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// maxAgentAnswer bounds what is read of an agent's answer: 4,096 sessions with a lease each
// are two megabytes.
const maxAgentAnswer = 64 << 20

// agentStatus is what the agent answers to GET /v1/status, as far as the table shows it.
type agentStatus struct {
	Agent struct {
		Version, Host, Since string
		PID                  int
		OnExit               string `json:"on_exit"`
		Sessions, Resuming   int
		Leases, Lost         int
		MaxSessions          int `json:"max_sessions"`
	}
	Sessions []struct {
		Session struct {
			ID, Kind, State, User, Host string
			PID                         int
			TTLRemainingMS              int64 `json:"ttl_remaining_ms"`
		}
		Valid  bool
		Leases []agentLease
		Lost   []agentLease
	}
}

type agentLease struct {
	ID           string
	Feature      string
	Count        int
	FencingToken string `json:"fencing_token"`
	State        string
	RemainingMS  int64 `json:"remaining_ms"`
	Reason       string
}

func (a *app) agentStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the agent on this machine: its sessions, and whether their seats are valid",
		Long: `Asks the agent on the socket. Root and the agent's own user see all sessions, others
their own. Exits 0 if an agent answers, 69 if none does.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			httpc, base, sign, err := a.agentClient()
			if err != nil {
				return err
			}
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, base+"/v1/status", nil)
			if err != nil {
				return err
			}
			sign(req)
			resp, err := httpc.Do(req)
			switch {
			case isRefusedConn(err):
				return exitf(exitUnreachable, "no agent listens on %s: start seatkeeper agent, or name its --socket", a.agentPlace())
			case err != nil:
				return exitf(exitUnreachable, "the agent on %s does not answer: %w", a.agentPlace(), err)
			}
			defer resp.Body.Close()
			data, err := io.ReadAll(io.LimitReader(resp.Body, maxAgentAnswer))
			if err != nil {
				return exitf(exitUnreachable, "the agent on %s does not answer: %w", a.agentPlace(), err)
			}
			if resp.StatusCode != http.StatusOK {
				var p struct{ Message string }
				_ = json.Unmarshal(data, &p)
				return exitf(exitError1, "the agent answers %s: %s", resp.Status, p.Message)
			}
			var st agentStatus
			if err := json.Unmarshal(data, &st); err != nil {
				return exitf(exitError1, "the agent's answer cannot be read: %w", err)
			}
			return a.print(json.RawMessage(data), func(t *table) { drawAgent(t, &st) })
		},
	}
}

func (a *app) agentPlace() string {
	if path := a.cfg.Agent.socketPath(a.lookupEnv); path != "" && (a.cfg.Agent.Listen == "" || a.cfg.origin["agent.socket"] != "") {
		return path
	}
	return a.cfg.Agent.Listen
}

func drawAgent(t *table, st *agentStatus) {
	g := st.Agent
	t.text("agent %s, pid %d on %s, since %s; %d of %d sessions, %d leases, %d lost, %d resuming; on exit: %s",
		g.Version, g.PID, g.Host, g.Since, g.Sessions, g.MaxSessions, g.Leases, g.Lost, g.Resuming, g.OnExit)
	if len(st.Sessions) == 0 {
		return
	}
	t.row("SESSION", "KIND", "PID", "USER", "FEATURE", "COUNT", "LEASE", "TOKEN", "STATE", "LEFT")
	for _, s := range st.Sessions {
		pid := "-"
		if s.Session.PID != 0 {
			pid = fmt.Sprint(s.Session.PID)
		}
		row := func(l agentLease, state, left string) {
			t.row(s.Session.ID, s.Session.Kind, pid, s.Session.User, l.Feature, fmt.Sprint(l.Count), l.ID, l.FencingToken, state, left)
		}
		for _, l := range s.Leases {
			row(l, l.State, (time.Duration(l.RemainingMS) * time.Millisecond).Round(time.Second).String())
		}
		for _, l := range s.Lost {
			state := "lost"
			if l.Reason != "" {
				state += ": " + l.Reason
			}
			if s.Session.State != "ready" {
				state = s.Session.State
			}
			row(l, state, "-")
		}
		if len(s.Leases)+len(s.Lost) == 0 {
			t.row(s.Session.ID, s.Session.Kind, pid, s.Session.User, "-", "-", "-", "-", s.Session.State, "-")
		}
	}
}
