package fsm

import (
	"encoding/hex"
	"encoding/json"

	"github.com/hashicorp/raft"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// The applied log as JSON, one object a line, for people and for judges that share no
// code with this package. 64-bit numbers are strings. Session secrets are not in the
// log, and their digests stay out of this.

// AuditEntry is one applied entry.
type AuditEntry struct {
	Index uint64 `json:"index,string"`
	Term  uint64 `json:"term,string"`
	// NowNS is cluster time after the entry, StampNS what the proposer stamped it with.
	NowNS      int64 `json:"now_ns,string"`
	StampNS    int64 `json:"stamp_ns,string"`
	CalendarMS int64 `json:"calendar_ms,string"`
	// Epoch is the one the entry was made for; a Lead entry begins its own.
	Epoch uint64 `json:"epoch,string"`
	Stale bool   `json:"stale"`
	Hash  string `json:"hash"`
	// Uncertain is set where only the log holds the entry and nothing shows that this
	// node applied it: it may not be committed.
	Uncertain bool           `json:"uncertain,omitempty"`
	Lead      *AuditLead     `json:"lead,omitempty"`
	Commands  []AuditCommand `json:"commands"`
}

// AuditLead is the content of a Lead entry.
type AuditLead struct {
	Node       string `json:"node"`
	APIAddress string `json:"api_address"`
	ClusterID  string `json:"cluster_id"`
	Version    string `json:"version"`
}

// AuditCommand is one command and what came of it. A stale entry has no results.
type AuditCommand struct {
	Kind        string          `json:"kind"`
	Tenant      string          `json:"tenant,omitempty"`
	Session     string          `json:"session,omitempty"`
	Incarnation uint64          `json:"incarnation,string,omitempty"`
	Seq         uint64          `json:"seq,string,omitempty"`
	Principal   *AuditPrincipal `json:"principal,omitempty"`
	InstanceID  string          `json:"instance_id,omitempty"`
	Items       []AuditItem     `json:"items,omitempty"`
	Ephemeral   bool            `json:"ephemeral,omitempty"`
	Tentative   bool            `json:"tentative,omitempty"`
	WaitNS      int64           `json:"wait_ns,string,omitempty"`
	Booking     string          `json:"booking,omitempty"`
	Partial     bool            `json:"partial,omitempty"`
	Ticket      uint64          `json:"ticket,string,omitempty"` // of a place in the queue
	ForNS       int64           `json:"for_ns,string,omitempty"` // of a booking
	Refs        []AuditRef      `json:"refs,omitempty"`
	Rev         uint64          `json:"rev,string,omitempty"`
	Close       bool            `json:"close,omitempty"`
	Reason      uint32          `json:"reason,omitempty"` // of a check-in
	By          string          `json:"by,omitempty"`     // of a kill or restore
	Licence     *AuditLicence   `json:"licence,omitempty"`
	Replace     bool            `json:"replace,omitempty"`
	Renewals    []AuditRenewal  `json:"renewals,omitempty"` // of a renew_many
	Restore     *AuditRestore   `json:"restore,omitempty"`
	Borrow      *AuditBorrow    `json:"borrow,omitempty"`
	Result      *AuditResult    `json:"result,omitempty"`
	// Access is the id of a token that was made or revoked, and its role.
	Access string `json:"access,omitempty"`
	// LogVersion is what the log may hold from a raise_version on.
	LogVersion uint32 `json:"log_version,omitempty"`
	// Policy is the one applied.
	Policy *AuditPolicy `json:"policy,omitempty"`
	// Events is all that the command did to leases and places in the queue, in this order,
	// where its result does not say all of it: seats that were reclaimed in passing, or went
	// to somebody who waited.
	Events []AuditEvent `json:"events,omitempty"`
}

// AuditRestore is the backup that a restore goes back to (kind restore), or the place of
// a piece of it (kind restore_part).
type AuditRestore struct {
	Sum string `json:"sum"`
	// Index and Hash are those of the state in the backup.
	Index     uint64 `json:"index,string,omitempty"`
	Hash      string `json:"hash,omitempty"`
	ClusterID string `json:"cluster_id,omitempty"`
	Offset    uint64 `json:"offset,string,omitempty"`
	Size      uint64 `json:"size,string"`
}

// AuditRenewal is one session of a renew_many and what came of it; a stale entry says no
// more than the first two.
type AuditRenewal struct {
	Session     string `json:"session"`
	Incarnation uint64 `json:"incarnation,string,omitempty"`
	Reason      string `json:"reason,omitempty"` // why it was refused
	Leases      int    `json:"leases,omitempty"` // held after it
	RemainingNS int64  `json:"remaining_ns,string,omitempty"`
	News        bool   `json:"news,omitempty"`
}

// AuditPrincipal is on whose behalf a session runs.
type AuditPrincipal struct {
	User          string `json:"user,omitempty"`
	Host          string `json:"host,omitempty"`
	IP            string `json:"ip,omitempty"`
	Display       string `json:"display,omitempty"`
	VendorDefined string `json:"vendor_defined,omitempty"`
	Project       string `json:"project,omitempty"`
}

// AuditItem is one line of a checkout.
type AuditItem struct {
	Feature string `json:"feature"`
	Version string `json:"version"`
	Count   int64  `json:"count"`
}

// AuditRef names a lease.
type AuditRef struct {
	ID    uint64 `json:"id,string"`
	Token uint64 `json:"token,string"`
}

// AuditLicence is a licence without the text of its file.
type AuditLicence struct {
	ID           string             `json:"id"`
	Vendor       string             `json:"vendor,omitempty"`
	Tenant       string             `json:"tenant"`
	Entitlements []AuditEntitlement `json:"entitlements,omitempty"`
}

// AuditEntitlement is one grant line.
type AuditEntitlement struct {
	Feature          string `json:"feature"`
	Version          string `json:"version"`
	Count            int64  `json:"count"`
	StartMS          int64  `json:"start_ms,string"`
	ExpiryMS         int64  `json:"expiry_ms,string"`
	Serial           string `json:"serial"`
	LifespanNS       int64  `json:"lifespan_ns,string"`
	GraceNS          int64  `json:"grace_ns,string"`
	ShareBy          uint32 `json:"share_by"`
	ShareMaxSessions int64  `json:"share_max_sessions"`
}

// AuditResult is what a command came to; an empty reason means that it was done.
type AuditResult struct {
	Reason   string          `json:"reason,omitempty"`
	Final    bool            `json:"final,omitempty"`
	Replayed bool            `json:"replayed,omitempty"`
	Leases   []AuditLease    `json:"leases,omitempty"`
	Lost     []AuditReleased `json:"lost,omitempty"`
	Released []AuditReleased `json:"released,omitempty"`
	Place    *AuditPlace     `json:"place,omitempty"` // of a checkout that is queued
}

// AuditLease is one live lease.
type AuditLease struct {
	ID         uint64 `json:"id,string"`
	Token      uint64 `json:"token,string"`
	Handle     uint32 `json:"handle"`
	Tenant     string `json:"tenant"`
	Session    string `json:"session"`
	Feature    string `json:"feature"`
	Version    string `json:"version"`
	Count      int    `json:"count"`
	Seats      []int  `json:"seats"`
	DeadlineNS int64  `json:"deadline_ns,string"`
	GraceNS    int64  `json:"grace_ns,string"`
	State      string `json:"state"`
	Rev        uint64 `json:"rev,string"`
}

// AuditReleased is a lease that ended, and why.
type AuditReleased struct {
	ID      uint64 `json:"id,string"`
	Token   uint64 `json:"token,string"`
	Feature string `json:"feature"`
	Count   int    `json:"count,omitempty"`
	Reason  string `json:"reason"`
}

// AuditSnapshot is the whole state, where the log does not reach back to the first entry.
type AuditSnapshot struct {
	Index      uint64         `json:"index,string"`
	Term       uint64         `json:"term,string"`
	ClusterID  string         `json:"cluster_id"`
	Epoch      uint64         `json:"epoch,string"`
	EpochTerm  uint64         `json:"epoch_term,string"`
	NowNS      int64          `json:"now_ns,string"`
	CalendarMS int64          `json:"calendar_ms,string"`
	Licences   []AuditLicence `json:"licences"`
	Pools      []AuditPool    `json:"pools"`
	Sessions   []AuditSession `json:"sessions"`
	Leases     []AuditLease   `json:"leases"`
}

// AuditPool is one pool and its seats in use.
type AuditPool struct {
	Tenant  string `json:"tenant"`
	Feature string `json:"feature"`
	Version string `json:"version"`
	Total   int    `json:"total"`
	InUse   int    `json:"in_use"`
}

// AuditSession is one session that is remembered.
type AuditSession struct {
	ID          string          `json:"id"`
	Tenant      string          `json:"tenant"`
	Principal   *AuditPrincipal `json:"principal"`
	Incarnation uint64          `json:"incarnation,string"`
	Seq         uint64          `json:"seq,string"`
	Rev         uint64          `json:"rev,string"`
	RenewedNS   int64           `json:"renewed_ns,string"`
	Closed      bool            `json:"closed"`
}

// Audit describes one applied entry. b and events are what Options.Observe is called with.
func Audit(l *raft.Log, e *logv1.Entry, o Outcome, b *lease.Book, events []lease.Event) AuditEntry {
	a := AuditEntry{
		Index: l.Index, Term: l.Term, NowNS: int64(o.Now), StampNS: e.Stamp, CalendarMS: e.Calendar,
		Epoch: e.Epoch, Stale: o.Stale, Hash: hex.EncodeToString(o.StateHash[:]),
		Commands: make([]AuditCommand, len(e.Commands)),
	}
	if e.Lead != nil {
		a.Epoch = l.Index
		a.Lead = &AuditLead{Node: e.Lead.Node, APIAddress: e.Lead.ApiAddress, ClusterID: e.Lead.ClusterId, Version: e.Lead.Version}
	}
	for i, pb := range e.Commands {
		a.Commands[i] = auditCommand(fromCommand(pb))
		if i < len(o.Replies) {
			a.Commands[i].Result = auditResult(&o.Replies[i])
			for k, x := range o.Replies[i].Renewed {
				r := &a.Commands[i].Renewals[k]
				r.Reason, r.Leases, r.RemainingNS, r.News = string(x.Reason), x.Leases, int64(x.Remaining), x.News
			}
		}
		if i < len(o.Steps) && o.Steps[i] <= len(events) {
			from := 0
			if i > 0 {
				from = o.Steps[i-1]
			}
			a.Commands[i].Events = auditEvents(b, events[from:o.Steps[i]], &o.Replies[i])
		}
	}
	return a
}

// AuditState describes the whole state, as a line {"snapshot": …, "hash": …}.
func AuditState(st Status, b *lease.Book) []byte {
	s := &AuditSnapshot{
		Index: st.AppliedIndex, Term: st.AppliedTerm, ClusterID: st.ClusterID, Epoch: st.Epoch.Index, EpochTerm: st.Epoch.Term,
		NowNS: int64(b.Now()), CalendarMS: int64(b.Calendar()),
		Licences: []AuditLicence{}, Pools: []AuditPool{}, Sessions: []AuditSession{}, Leases: []AuditLease{},
	}
	for _, x := range b.Licences("") {
		s.Licences = append(s.Licences, *auditLicence(&x))
	}
	for _, p := range b.Pools("") {
		s.Pools = append(s.Pools, AuditPool{p.Tenant, p.Feature, p.Version, p.Total, p.InUse})
	}
	b.Freeze().Sessions(func(_ uint32, r *lease.SessionRecord) bool {
		s.Sessions = append(s.Sessions, AuditSession{ID: r.ID.String(), Tenant: r.Tenant, Principal: auditPrincipal(r.Principal),
			Incarnation: r.Incarnation, Seq: r.Seq, Rev: r.Rev, RenewedNS: int64(r.Renewed), Closed: r.Closed})
		return true
	})
	leases, _ := b.Leases(lease.Filter{}, 0, lease.MaxLeases)
	s.Leases = append(s.Leases, auditLeases(leases)...)
	line, _ := json.Marshal(struct { // plain data: it cannot fail
		Snapshot *AuditSnapshot `json:"snapshot"`
		Hash     string         `json:"hash"`
	}{s, hex.EncodeToString(st.StateHash[:])})
	return line
}

func auditCommand(cmd lease.Command) AuditCommand {
	switch c := cmd.(type) {
	case lease.Checkout:
		a := AuditCommand{Kind: "checkout", Tenant: c.Tenant, Principal: auditPrincipal(c.Principal), InstanceID: c.InstanceID,
			Ephemeral: c.Ephemeral, Tentative: c.Tentative, WaitNS: int64(c.Wait), Booking: c.Booking, Partial: c.Partial}
		for _, it := range c.Items {
			a.Items = append(a.Items, AuditItem{it.Feature, it.Version, int64(it.Count)})
		}
		return a.of(c.Session)
	case lease.Renew:
		return AuditCommand{Kind: "renew", Refs: auditRefs(c.Held)}.of(c.Session)
	case lease.RenewMany:
		a := AuditCommand{Kind: "renew_many", Renewals: make([]AuditRenewal, len(c.Sessions))}
		for i, x := range c.Sessions {
			a.Renewals[i] = AuditRenewal{Session: x.ID.String(), Incarnation: x.Incarnation}
		}
		return a
	case lease.CheckIn:
		return AuditCommand{Kind: "checkin", Refs: auditRefs(c.Refs), Close: c.Close, Reason: uint32(c.Reason)}.of(c.Session)
	case lease.Expire:
		return AuditCommand{Kind: "expire", Refs: auditRefs([]lease.Ref{c.Ref}), Rev: c.Rev}
	case lease.ExpireSession:
		return AuditCommand{Kind: "expire_session", Session: c.ID.String(), Rev: c.Rev}
	case lease.Kill:
		return AuditCommand{Kind: "kill", Refs: auditRefs(c.Refs), By: c.By}
	case lease.InstallLicence:
		return AuditCommand{Kind: "install_licence", Tenant: c.Licence.Tenant, Licence: auditLicence(&c.Licence), Replace: c.Replace}
	case lease.RemoveLicence:
		return AuditCommand{Kind: "remove_licence", Tenant: c.Tenant, Licence: &AuditLicence{ID: c.ID, Tenant: c.Tenant}}
	case lease.Fence:
		return AuditCommand{Kind: "fence"}
	case lease.Leave:
		return AuditCommand{Kind: "leave", Ticket: c.Ticket}.of(c.Session)
	case lease.Dequeue:
		return AuditCommand{Kind: "dequeue", Ticket: c.Ticket}
	case lease.MakeBooking:
		a := AuditCommand{Kind: "make_booking", Tenant: c.Tenant, Booking: c.ID, ForNS: int64(c.For), By: c.By, Principal: auditPrincipal(c.Only)}
		for _, it := range c.Items {
			a.Items = append(a.Items, AuditItem{it.Feature, it.Version, int64(it.Count)})
		}
		return a
	case lease.CancelBooking:
		return AuditCommand{Kind: "cancel_booking", Tenant: c.Tenant, Booking: c.ID, By: c.By}
	case lease.ExpireBooking:
		return AuditCommand{Kind: "expire_booking", Ticket: c.Number}
	case lease.Tick:
		return AuditCommand{Kind: "tick"}
	case RestorePart:
		return AuditCommand{Kind: "restore_part", Restore: &AuditRestore{Sum: hex.EncodeToString(c.Sum[:]), Offset: c.Offset, Size: uint64(len(c.Data))}}
	case Restore:
		return AuditCommand{Kind: "restore", By: c.By, Restore: &AuditRestore{Sum: hex.EncodeToString(c.Sum[:]), Size: c.Size,
			Index: c.BackupIndex, Hash: hex.EncodeToString(c.BackupHash[:]), ClusterID: c.ClusterID}}
	}
	if a, ok := auditBorrow(cmd); ok {
		return a
	}
	if c, ok := cmd.(lease.ApplyPolicy); ok {
		return AuditCommand{Kind: "apply_policy", Tenant: c.Policy.Tenant, Policy: auditPolicy(&c.Policy)}
	}
	if a, ok := auditAccess(cmd); ok {
		return a
	}
	if c, ok := cmd.(RaiseVersion); ok {
		return AuditCommand{Kind: "raise_version", LogVersion: c.Version}
	}
	return AuditCommand{Kind: "unknown"}
}

func (a AuditCommand) of(s lease.SessionRef) AuditCommand {
	a.Session, a.Incarnation, a.Seq = s.ID.String(), s.Incarnation, s.Seq
	return a
}

func auditResult(r *lease.Reply) *AuditResult {
	a := &AuditResult{Replayed: r.Replayed, Leases: auditLeases(r.Leases)}
	if r.Refusal != nil {
		a.Reason, a.Final = string(r.Refusal.Reason), r.Refusal.Final
	}
	if p := r.Place; p != nil {
		a.Place = &AuditPlace{Ticket: p.Ticket, Position: p.Position, Priority: p.Priority}
	}
	for _, x := range r.Lost {
		a.Lost = append(a.Lost, AuditReleased{ID: uint64(x.ID), Token: uint64(x.Token), Feature: x.Feature, Reason: x.Reason.String()})
	}
	for _, x := range r.Released {
		a.Released = append(a.Released, AuditReleased{uint64(x.ID), uint64(x.Token), x.Feature, x.Count, x.Reason.String()})
	}
	return a
}

func auditLeases(list []lease.Lease) (out []AuditLease) {
	for _, x := range list {
		out = append(out, AuditLease{
			ID: uint64(x.ID), Token: uint64(x.Token), Handle: uint32(x.Handle), Tenant: x.Tenant, Session: x.Session.String(),
			Feature: x.Feature, Version: x.Version, Count: x.Count, Seats: x.Seats,
			DeadlineNS: int64(x.Deadline), GraceNS: int64(x.Grace), State: x.State.String(), Rev: x.Rev,
		})
	}
	return out
}

func auditRefs(list []lease.Ref) (out []AuditRef) {
	for _, x := range list {
		out = append(out, AuditRef{uint64(x.ID), uint64(x.Token)})
	}
	return out
}

func auditPrincipal(p lease.Principal) *AuditPrincipal {
	return &AuditPrincipal{p.User, p.Host, p.IP, p.Display, p.VendorDefined, p.Project}
}

func auditLicence(x *lease.Licence) *AuditLicence {
	a := &AuditLicence{ID: x.ID, Vendor: x.Vendor, Tenant: x.Tenant}
	for _, e := range x.Entitlements {
		a.Entitlements = append(a.Entitlements, AuditEntitlement{
			Feature: e.Feature, Version: e.Version, Count: int64(e.Count), StartMS: int64(e.Start), ExpiryMS: int64(e.Expiry), Serial: e.Serial,
			LifespanNS: int64(e.Profile.Lifespan), GraceNS: int64(e.Profile.Grace),
			ShareBy: uint32(e.Share.By), ShareMaxSessions: int64(e.Share.MaxSessions),
		})
	}
	return a
}
