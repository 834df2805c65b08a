package cluster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// maxHistoryRecord bounds one record on reading: a name has at most 128 bytes, and there
// are a dozen.
const maxHistoryRecord = 16 << 10

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// appendHistory frames a record: length, checksum, body.
func appendHistory(buf []byte, r *logv1.HistoryRecord) ([]byte, error) {
	before, n := len(buf), r.SizeVT()
	const sum = 4
	buf = binary.AppendUvarint(buf, uint64(n))
	at := len(buf)
	buf = slices.Grow(buf, sum+n)[:at+sum+n]
	body := buf[at+sum:]
	if _, err := r.MarshalToSizedBufferVTStrict(body); err != nil {
		return buf[:before], err
	}
	binary.BigEndian.PutUint32(buf[at:], crc32.Checksum(body, crcTable))
	return buf, nil
}

// errHistoryDamaged is returned where a file holds something else than records.
var errHistoryDamaged = errors.New("record damaged")

// readHistory calls fn for each whole record and returns how many bytes they take; the
// error is io.EOF at a clean end.
func readHistory(in io.Reader, fn func(*logv1.HistoryRecord)) (good int64, err error) {
	r := bufio.NewReaderSize(in, 256<<10)
	var body []byte
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return good, err
		}
		if n > maxHistoryRecord {
			return good, fmt.Errorf("%w: %d bytes", errHistoryDamaged, n)
		}
		var sum [4]byte
		if _, err := io.ReadFull(r, sum[:]); err != nil {
			return good, io.ErrUnexpectedEOF
		}
		if uint64(cap(body)) < n {
			body = make([]byte, n)
		}
		body = body[:n]
		if _, err := io.ReadFull(r, body); err != nil {
			return good, io.ErrUnexpectedEOF
		}
		rec := &logv1.HistoryRecord{}
		if binary.BigEndian.Uint32(sum[:]) != crc32.Checksum(body, crcTable) || rec.UnmarshalVT(body) != nil {
			return good, errHistoryDamaged
		}
		good += int64(len(binary.AppendUvarint(nil, n))) + int64(len(sum)) + int64(n)
		fn(rec)
	}
}

// recordMaker makes one record after the other in the same memory. There are as many as
// leases that end.
type recordMaker struct {
	made      logv1.HistoryRecord
	usage     logv1.HistoryRecord_Usage
	ended     logv1.HistoryUsage
	denial    logv1.HistoryRecord_Denial
	denied    logv1.HistoryDenial
	principal logv1.Principal
}

// record makes the record of an event, which holds until the next call and while the event
// does; nil for one that is not kept.
func (m *recordMaker) record(e *lease.Event, index uint64, place uint32) *logv1.HistoryRecord {
	m.made = logv1.HistoryRecord{Index: index, Place: place, Date: int64(e.Date)}
	m.principal = logv1.Principal{User: e.Principal.User, Host: e.Principal.Host, Ip: e.Principal.IP, Display: e.Principal.Display,
		VendorDefined: e.Principal.VendorDefined, Project: e.Principal.Project}
	switch e.Kind {
	case lease.Ended:
		m.ended = logv1.HistoryUsage{
			Lease: uint64(e.Lease.ID), Tenant: e.Tenant, Vendor: e.Vendor, Feature: e.Feature, Version: e.Version, Count: int64(e.Count),
			Session: e.Session[:], Principal: &m.principal, Start: int64(e.Start), End: int64(e.At),
			StartDate: int64(e.StartDate), Reason: uint32(e.Release), Charge: e.Charge,
		}
		m.usage.Usage = &m.ended
		m.made.Kind = &m.usage
	case lease.Denied:
		m.denied = logv1.HistoryDenial{
			Tenant: e.Tenant, Vendor: e.Vendor, Feature: e.Feature, Version: e.Version, Count: int64(e.Count), Session: e.Session[:],
			Principal: &m.principal, Reason: string(e.Reason), Final: e.Final, At: int64(e.At),
		}
		m.denial.Denial = &m.denied
		m.made.Kind = &m.denial
	default:
		return nil
	}
	return &m.made
}

func principalFrom(p *logv1.Principal) lease.Principal {
	return lease.Principal{User: p.GetUser(), Host: p.GetHost(), IP: p.GetIp(), Display: p.GetDisplay(), VendorDefined: p.GetVendorDefined(), Project: p.GetProject()}
}

func sessionFrom(b []byte) (id lease.SessionID) {
	copy(id[:], b)
	return id
}

func idOf(r *logv1.HistoryRecord) lease.DenialID {
	return lease.DenialID{Index: r.GetIndex(), Place: r.GetPlace()}
}

func usageFrom(r *logv1.HistoryRecord) lease.UsageRecord {
	u := r.GetUsage()
	return lease.UsageRecord{
		Lease: lease.ID(u.GetLease()), Tenant: u.GetTenant(), Vendor: u.GetVendor(), Feature: u.GetFeature(), Version: u.GetVersion(),
		Count: int(u.GetCount()), Session: sessionFrom(u.GetSession()), Principal: principalFrom(u.GetPrincipal()),
		Start: lease.Time(u.GetStart()), End: lease.Time(u.GetEnd()), StartDate: lease.Calendar(u.GetStartDate()), EndDate: lease.Calendar(r.GetDate()),
		Reason: lease.Release(u.GetReason()), Charge: u.GetCharge(),
	}
}

func denialFrom(r *logv1.HistoryRecord) lease.DenialRecord {
	d := r.GetDenial()
	return lease.DenialRecord{
		ID: idOf(r), At: lease.Time(d.GetAt()), Date: lease.Calendar(r.GetDate()), Tenant: d.GetTenant(), Vendor: d.GetVendor(),
		Feature: d.GetFeature(), Version: d.GetVersion(), Count: int(d.GetCount()), Session: sessionFrom(d.GetSession()),
		Principal: principalFrom(d.GetPrincipal()), Reason: lease.Reason(d.GetReason()), Final: d.GetFinal(),
	}
}
