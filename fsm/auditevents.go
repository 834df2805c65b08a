package fsm

import (
	"slices"

	"github.com/seatkeeper/seatkeeper/lease"
)

// AuditEvent is one thing that happened to a lease or to a place in the queue.
type AuditEvent struct {
	// Kind is checkout, release, queued or dequeued.
	Kind    string `json:"kind"`
	ID      uint64 `json:"id,string,omitempty"`
	Token   uint64 `json:"token,string,omitempty"`
	Ticket  uint64 `json:"ticket,string,omitempty"`
	Session string `json:"session,omitempty"`
	User    string `json:"user,omitempty"`
	Feature string `json:"feature,omitempty"`
	Version string `json:"version,omitempty"`
	Count   int    `json:"count,omitempty"`
	// Seats and DeadlineNS are those of a granted lease that is live after the entry.
	Seats      []int `json:"seats,omitempty"`
	DeadlineNS int64 `json:"deadline_ns,string,omitempty"`
	// Reason is why a lease ended, or why a place ended without seats.
	Reason string `json:"reason,omitempty"`
}

// AuditPlace is where a checkout stands in the queue.
type AuditPlace struct {
	Ticket   uint64 `json:"ticket,string"`
	Position int    `json:"position"`
	Priority int    `json:"priority,omitempty"`
}

// AuditPolicy is a policy as the API spells it.
type AuditPolicy struct {
	IgnoreCase bool               `json:"ignore_case,omitempty"`
	Groups     []AuditPolicyGroup `json:"groups,omitempty"`
	Rules      []AuditPolicyRule  `json:"rules,omitempty"`
}

// AuditPolicyGroup is one group of a policy.
type AuditPolicyGroup struct {
	Name     string   `json:"name"`
	Hosts    bool     `json:"hosts,omitempty"`
	Members  []string `json:"members,omitempty"`
	Priority int      `json:"priority,omitempty"`
}

// AuditPolicyRule is one rule of a policy.
type AuditPolicyRule struct {
	Kind    string `json:"kind"`
	Feature string `json:"feature,omitempty"`
	WhoType string `json:"who_type,omitempty"`
	Who     string `json:"who,omitempty"`
	Seats   int    `json:"seats,omitempty"`
	TimeNS  int64  `json:"time_ns,string,omitempty"`
	GraceNS int64  `json:"grace_ns,string,omitempty"`
}

func auditPolicy(p *lease.Policy) *AuditPolicy {
	x := &AuditPolicy{IgnoreCase: p.FoldCase}
	for _, g := range p.Groups {
		x.Groups = append(x.Groups, AuditPolicyGroup{g.Name, g.Hosts, g.Members, g.Priority})
	}
	for _, r := range p.Rules {
		x.Rules = append(x.Rules, AuditPolicyRule{
			Kind: r.Kind.String(), Feature: r.Feature, WhoType: r.Who.Type.String(), Who: r.Who.Name, Seats: r.Seats,
			TimeNS: int64(r.Time), GraceNS: int64(r.Grace),
		})
	}
	return x
}

// auditEvents lists what a command did; nil where its reply says the same.
func auditEvents(b *lease.Book, events []lease.Event, r *lease.Reply) (list []AuditEvent) {
	told := true
	for _, e := range events {
		switch e.Kind {
		case lease.Granted:
			told = told && slices.ContainsFunc(r.Leases, func(x lease.Lease) bool { return x.ID == e.Lease.ID })
		case lease.Ended:
			told = told && slices.ContainsFunc(r.Released, func(x lease.Released) bool { return x.ID == e.Lease.ID })
		case lease.Queued, lease.Dequeued:
			told = false
		}
	}
	if told {
		return nil
	}
	for _, e := range events {
		if e.Kind == lease.Denied {
			continue
		}
		x := AuditEvent{Kind: e.Kind.String(), ID: uint64(e.Lease.ID), Token: uint64(e.Lease.Token), Ticket: e.Ticket, Session: e.Session.String(),
			User: e.Principal.User, Feature: e.Feature, Version: e.Version, Count: e.Count, Reason: string(e.Reason)}
		if e.Kind == lease.Ended {
			x.Reason = e.Release.String()
		}
		if e.Kind == lease.Granted && b != nil {
			if live, _ := b.Leases(lease.Filter{ID: e.Lease.ID}, 0, 1); len(live) == 1 {
				x.Seats, x.DeadlineNS = live[0].Seats, int64(live[0].Deadline)
			}
		}
		list = append(list, x)
	}
	return list
}
