package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Limits of one log entry.
const (
	// MaxBatch is how many commands one entry carries: enough to share one fsync among
	// all that wait, few enough that an entry stays small and its apply short.
	MaxBatch = 512
	// MaxEntryBytes bounds an entry; raft's transport and log stores are happy below it.
	MaxEntryBytes = 512 << 10
)

// entryVersion is the first byte of every entry. A node that meets a version it does
// not know stops: skipping the entry would make it another replica.
const entryVersion = 1

// envelope is version (1 byte), CRC-32C of the payload (4 bytes, big endian), payload.
// raft-boltdb hands back a flipped bit as good data; the CRC finds it.
const envelope = 5

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is wrapped by decoding errors: the entry is not what was proposed.
var ErrCorrupt = errors.New("corrupt log entry")

// Lead is the content of the entry that starts an epoch.
type Lead struct{ Node, APIAddress, ClusterID, Version string }

// EncodeLead makes the log entry that starts an epoch. cal is the wall clock of the
// new leader.
func EncodeLead(l Lead, cal lease.Calendar) ([]byte, error) {
	return seal(&logv1.Entry{Calendar: int64(cal), Lead: &logv1.Lead{
		Node: l.Node, ApiAddress: l.APIAddress, ClusterId: l.ClusterID, Version: l.Version,
	}})
}

// EncodeBatch makes one log entry of up to MaxBatch commands, stamped with cluster time
// and the proposer's wall clock, valid in one epoch only.
func EncodeBatch(epoch uint64, stamp lease.Time, cal lease.Calendar, cmds []lease.Command) ([]byte, error) {
	if len(cmds) > MaxBatch {
		return nil, fmt.Errorf("%d commands in one entry; at most %d are possible", len(cmds), MaxBatch)
	}
	e := &logv1.Entry{Epoch: epoch, Stamp: int64(stamp), Calendar: int64(cal), Commands: make([]*logv1.Command, len(cmds))}
	for i, c := range cmds {
		pb, err := toCommand(c)
		if err != nil {
			return nil, err
		}
		e.Commands[i] = pb
	}
	return seal(e)
}

func seal(e *logv1.Entry) ([]byte, error) {
	buf, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(make([]byte, envelope, 256), e)
	if err != nil {
		return nil, err
	}
	return finish(buf)
}

// Decode opens an entry. Its errors wrap ErrCorrupt, or say that the version is unknown.
func Decode(data []byte) (*logv1.Entry, error) {
	e := &logv1.Entry{}
	if err := decode(data, e); err != nil {
		return nil, err
	}
	return e, nil
}

// decode reads an entry into an empty one.
func decode(data []byte, into *logv1.Entry) error {
	if len(data) < envelope {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(data))
	}
	if data[0] != entryVersion {
		return fmt.Errorf("log entry version %d is unknown to this build: run the version that wrote it, or a later one", data[0])
	}
	if crc32.Checksum(data[envelope:], castagnoli) != binary.BigEndian.Uint32(data[1:]) {
		return fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	if err := into.UnmarshalVT(data[envelope:]); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return nil
}

func toRef(r lease.Ref) *logv1.Ref { return &logv1.Ref{Id: uint64(r.ID), Token: uint64(r.Token)} }

func fromRef(r *logv1.Ref) lease.Ref {
	return lease.Ref{ID: lease.ID(r.GetId()), Token: lease.Token(r.GetToken())}
}

// toRefs appends to an empty list, which may have had others before.
func toRefs(list []*logv1.Ref, rs []lease.Ref) []*logv1.Ref {
	list = slices.Grow(list, len(rs))
	for _, r := range rs {
		list = append(list, toRef(r))
	}
	return list
}

func fromRefs(rs []*logv1.Ref) []lease.Ref {
	if len(rs) == 0 {
		return nil
	}
	out := make([]lease.Ref, len(rs))
	for i, r := range rs {
		out[i] = fromRef(r)
	}
	return out
}

func toSession(s lease.SessionRef) *logv1.SessionRef {
	x := logv1.SessionRefFromVTPool()
	x.Id, x.Digest = append(x.Id, s.ID[:]...), append(x.Digest, s.Digest[:]...)
	x.Incarnation, x.Seq = s.Incarnation, s.Seq
	return x
}

func fromSession(s *logv1.SessionRef) lease.SessionRef {
	r := lease.SessionRef{Incarnation: s.GetIncarnation(), Seq: s.GetSeq()}
	copy(r.ID[:], s.GetId())
	copy(r.Digest[:], s.GetDigest())
	return r
}

func toPrincipal(p lease.Principal) *logv1.Principal {
	x := logv1.PrincipalFromVTPool()
	x.User, x.Host, x.Ip, x.Display, x.VendorDefined, x.Project = p.User, p.Host, p.IP, p.Display, p.VendorDefined, p.Project
	return x
}

func fromPrincipal(p *logv1.Principal) lease.Principal {
	return lease.Principal{User: p.GetUser(), Host: p.GetHost(), IP: p.GetIp(), Display: p.GetDisplay(), VendorDefined: p.GetVendorDefined(), Project: p.GetProject()}
}

func toCommand(cmd lease.Command) (*logv1.Command, error) {
	switch c := cmd.(type) {
	case lease.Checkout:
		x := logv1.CheckoutFromVTPool()
		x.Tenant, x.Session, x.Principal = c.Tenant, toSession(c.Session), toPrincipal(c.Principal)
		x.InstanceId, x.Ephemeral, x.Tentative = c.InstanceID, c.Ephemeral, c.Tentative
		x.Wait, x.Booking, x.Partial = int64(c.Wait), c.Booking, c.Partial
		for _, it := range c.Items {
			x.Items = append(x.Items, &logv1.Item{Feature: it.Feature, Version: it.Version, Count: int64(it.Count)})
		}
		return &logv1.Command{Kind: &logv1.Command_Checkout{Checkout: x}}, nil
	case lease.Renew:
		x := logv1.RenewFromVTPool()
		x.Session, x.Held, x.Idle = toSession(c.Session), toRefs(x.Held, c.Held), int64(c.Idle)
		return &logv1.Command{Kind: &logv1.Command_Renew{Renew: x}}, nil
	case lease.RenewMany:
		x := logv1.RenewManyFromVTPool()
		x.Sessions = packSessions(x.Sessions, c.Sessions)
		return &logv1.Command{Kind: &logv1.Command_RenewMany{RenewMany: x}}, nil
	case lease.CheckIn:
		x := logv1.CheckInFromVTPool()
		x.Session, x.Refs, x.Close, x.Reason = toSession(c.Session), toRefs(x.Refs, c.Refs), c.Close, uint32(c.Reason)
		return &logv1.Command{Kind: &logv1.Command_CheckIn{CheckIn: x}}, nil
	case lease.Expire:
		return &logv1.Command{Kind: &logv1.Command_Expire{Expire: &logv1.Expire{Ref: toRef(c.Ref), Rev: c.Rev}}}, nil
	case lease.ExpireSession:
		return &logv1.Command{Kind: &logv1.Command_ExpireSession{ExpireSession: &logv1.ExpireSession{Id: c.ID[:], Rev: c.Rev}}}, nil
	case lease.Kill:
		return &logv1.Command{Kind: &logv1.Command_Kill{Kill: &logv1.Kill{Refs: toRefs(nil, c.Refs), By: c.By}}}, nil
	case lease.InstallLicence:
		return &logv1.Command{Kind: &logv1.Command_InstallLicence{InstallLicence: &logv1.InstallLicence{Licence: toLicence(&c.Licence), Replace: c.Replace}}}, nil
	case lease.RemoveLicence:
		return &logv1.Command{Kind: &logv1.Command_RemoveLicence{RemoveLicence: &logv1.RemoveLicence{Tenant: c.Tenant, Id: c.ID}}}, nil
	case lease.ApplyPolicy:
		return &logv1.Command{Kind: &logv1.Command_ApplyPolicy{ApplyPolicy: &logv1.ApplyPolicy{Policy: toPolicy(&c.Policy), Expected: c.Expected}}}, nil
	case lease.Fence:
		return &logv1.Command{Kind: &logv1.Command_Fence{Fence: &logv1.Fence{}}}, nil
	case lease.Tick:
		return &logv1.Command{Kind: &logv1.Command_Tick{Tick: &logv1.Tick{}}}, nil
	case RestorePart:
		return &logv1.Command{Kind: &logv1.Command_RestorePart{RestorePart: toPart(c)}}, nil
	case Restore:
		return &logv1.Command{Kind: &logv1.Command_Restore{Restore: toRestore(c)}}, nil
	}
	if pb := toBorrowCommand(cmd); pb != nil {
		return pb, nil
	}
	if pb := toQueueCommand(cmd); pb != nil {
		return pb, nil
	}
	if x := toAccess(cmd); x != nil {
		return x, nil
	}
	if x := toVersionCommand(cmd); x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("command %T has no encoding", cmd)
}

// fromCommand gives nil for a kind this build does not know.
func fromCommand(pb *logv1.Command) lease.Command { return commandIn(nil, pb) }

// commandIn is fromCommand for a command that is done with before the next one is read: the
// sessions of a RenewMany stand in room, which it takes with it.
func commandIn(room *[]lease.Heartbeat, pb *logv1.Command) lease.Command {
	switch k := pb.GetKind().(type) {
	case *logv1.Command_Checkout:
		c := k.Checkout
		x := lease.Checkout{
			Tenant: c.Tenant, Session: fromSession(c.Session), Principal: fromPrincipal(c.Principal),
			InstanceID: c.InstanceId, Ephemeral: c.Ephemeral, Tentative: c.Tentative,
			Wait: time.Duration(c.Wait), Booking: c.Booking, Partial: c.Partial,
		}
		for _, it := range c.Items {
			x.Items = append(x.Items, lease.Item{Feature: it.Feature, Version: it.Version, Count: int(it.Count)})
		}
		return x
	case *logv1.Command_Renew:
		return lease.Renew{Session: fromSession(k.Renew.Session), Held: fromRefs(k.Renew.Held), Idle: time.Duration(k.Renew.Idle)}
	case *logv1.Command_RenewMany:
		if room == nil {
			room = new([]lease.Heartbeat)
		}
		list, ok := unpackSessions(*room, k.RenewMany.Sessions)
		if !ok {
			return nil
		}
		if list != nil {
			*room = list
		}
		return lease.RenewMany{Sessions: list}
	case *logv1.Command_CheckIn:
		c := k.CheckIn
		return lease.CheckIn{Session: fromSession(c.Session), Refs: fromRefs(c.Refs), Close: c.Close, Reason: lease.Release(c.Reason)}
	case *logv1.Command_Expire:
		return lease.Expire{Ref: fromRef(k.Expire.Ref), Rev: k.Expire.Rev}
	case *logv1.Command_ExpireSession:
		x := lease.ExpireSession{Rev: k.ExpireSession.Rev}
		copy(x.ID[:], k.ExpireSession.Id)
		return x
	case *logv1.Command_Kill:
		return lease.Kill{Refs: fromRefs(k.Kill.Refs), By: k.Kill.By}
	case *logv1.Command_InstallLicence:
		return lease.InstallLicence{Licence: fromLicence(k.InstallLicence.Licence), Replace: k.InstallLicence.Replace}
	case *logv1.Command_RemoveLicence:
		return lease.RemoveLicence{Tenant: k.RemoveLicence.Tenant, ID: k.RemoveLicence.Id}
	case *logv1.Command_ApplyPolicy:
		return lease.ApplyPolicy{Policy: fromPolicy(k.ApplyPolicy.Policy), Expected: k.ApplyPolicy.Expected}
	case *logv1.Command_Fence:
		return lease.Fence{}
	case *logv1.Command_Tick:
		return lease.Tick{}
	case *logv1.Command_RestorePart:
		return fromPart(k.RestorePart)
	case *logv1.Command_Restore:
		return fromRestore(k.Restore)
	}
	if cmd := fromBorrowCommand(pb); cmd != nil {
		return cmd
	}
	if cmd := fromAccess(pb); cmd != nil {
		return cmd
	}
	if cmd := fromVersionCommand(pb); cmd != nil {
		return cmd
	}
	return fromQueueCommand(pb)
}

func toLicence(l *lease.Licence) *logv1.Licence {
	x := &logv1.Licence{Id: l.ID, Vendor: l.Vendor, Tenant: l.Tenant, Cluster: l.Cluster, Issued: int64(l.Issued), Text: l.Text}
	for i := range l.Entitlements {
		x.Entitlements = append(x.Entitlements, toEntitlement(&l.Entitlements[i]))
	}
	return x
}

func fromLicence(x *logv1.Licence) lease.Licence {
	l := lease.Licence{ID: x.GetId(), Vendor: x.GetVendor(), Tenant: x.GetTenant(), Cluster: x.GetCluster(), Issued: lease.Calendar(x.GetIssued()), Text: x.GetText()}
	for _, e := range x.GetEntitlements() {
		l.Entitlements = append(l.Entitlements, fromEntitlement(e))
	}
	return l
}
