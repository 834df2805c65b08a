package fsm

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"reflect"

	"google.golang.org/protobuf/encoding/protowire"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// KeepEvents is how many ended waits the ring holds.
const KeepEvents = keepEvents

// FromCommand decodes one command of an entry.
func FromCommand(pb *logv1.Command) lease.Command { return fromCommand(pb) }

// CommandIn decodes one command of an entry whose sessions stand in room.
func CommandIn(room *[]lease.Heartbeat, pb *logv1.Command) lease.Command { return commandIn(room, pb) }

// DecodeInto decodes into an entry that may have been another's.
func DecodeInto(data []byte, into *logv1.Entry) error { return decode(data, into) }

// Envelope is what stands before the payload of an entry, in bytes.
const Envelope = envelope

// Sealed puts a payload into an envelope whose checksum is right.
func Sealed(payload []byte) []byte {
	buf := append([]byte{entryVersion, 0, 0, 0, 0}, payload...)
	sum := crc32.Checksum(payload, castagnoli)
	for i := range 4 {
		buf[1+i] = byte(sum >> (24 - 8*i))
	}
	return buf
}

// EveryCommand has one command of each kind with no field left zero, so that a field
// without an encoding is seen.
func EveryCommand() []lease.Command {
	n := 0
	var out []lease.Command
	for _, c := range []lease.Command{
		&lease.Checkout{}, &lease.Renew{}, &lease.CheckIn{}, &lease.Expire{}, &lease.ExpireSession{}, &lease.Kill{},
		&lease.InstallLicence{}, &lease.RemoveLicence{}, &lease.Fence{}, &lease.Tick{}, &RestorePart{}, &Restore{}, &lease.RenewMany{}, &lease.ApplyPolicy{},
		&lease.Borrow{}, &lease.RenewBorrow{}, &lease.ReturnEarly{}, &lease.RevokeBorrow{}, &lease.RotateBorrowKey{},
		&lease.Leave{}, &lease.Dequeue{}, &lease.MakeBooking{}, &lease.CancelBooking{}, &lease.ExpireBooking{},
		&CreateToken{}, &RevokeToken{}, &RaiseVersion{},
	} {
		v := reflect.ValueOf(c).Elem()
		Fill(v, &n)
		if raise, ok := c.(*RaiseVersion); ok {
			raise.Version = FirstVersion // a higher one would stop whoever applies it
		}
		out = append(out, v.Interface().(lease.Command))
	}
	return out
}

// Fill sets every field to a value of its own that is not zero.
func Fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n%200 + 1))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			Fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			Fill(v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		Fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && (f.Name != "Seats" || f.Type.Kind() != reflect.Struct) {
				Fill(v.Field(i), n)
			}
		}
	default:
		panic("no value for a " + v.Type().String())
	}
}

// Records are the snapshot records of the ledger's records, there and back.
func Records() map[string][2]any {
	n := 0
	var h lease.Header
	var st Status
	var p lease.PoolRecord
	var s lease.SessionRecord
	var g lease.GroupRecord
	var l lease.LeaseRecord
	var d lease.DrawRecord
	var pin lease.PinRecord
	var key lease.BorrowKey
	var over lease.Overdrawn
	var place lease.PlaceRecord
	var booking lease.BookingRecord
	var booked lease.BookedLease
	for _, v := range []any{&h, &st, &p, &s, &g, &l, &pin, &key, &over, &d, &place, &booking, &booked} {
		Fill(reflect.ValueOf(v).Elem(), &n)
	}
	g.N, s.Last.Kind = uint8(len(g.Members)), lease.DoneCheckIn
	st2, h2 := fromHeader(headerRecord(st, h).GetHeader())
	st2.Now, st2.Calendar = st.Now, st.Calendar // they are the ledger's
	g2, _ := fromGroup(groupRecord(1, &g).GetGroup())
	return map[string][2]any{
		"header": {h, h2}, "status": {st, st2}, "pool": {p, fromPool(poolRecord(1, &p).GetPool())},
		"session": {s, fromSessionRecord(sessionRecord(1, &s).GetSession())}, "charge": {g, g2},
		"draw":  {d, fromDraw(drawRecord(1, &d).GetDraw())},
		"lease": {l, fromLeaseRecord(leaseRecord(1, &l).GetLease())}, "pin": {pin, fromPin(pinRecord(&pin).GetPin())},
		"borrow key": {key, fromBorrowKey(borrowKeyRecord(&key).GetBorrowKey())}, "overdrawn": {over, fromOverdrawn(overdrawnRecord(&over).GetOverdrawn())},
		"place": {place, fromPlace(placeRecord(1, &place).GetPlace())}, "booking": {booking, fromBooking(bookingRecord(1, &booking).GetBooking())},
		"booked lease": {booked, fromBookedLease(bookedLeaseRecord(1, booked).GetBookedLease())},
	}
}

// OpenSnapshot gives the records of a snapshot without the last one.
func OpenSnapshot(snap []byte) (out []*logv1.SnapshotRecord, err error) {
	r := &recordReader{r: bufio.NewReader(bytes.NewReader(snap)), crc: crc32.New(castagnoli)}
	if err := r.full(make([]byte, len(snapshotMagic))); err != nil {
		return nil, err
	}
	for {
		rec, err := r.next()
		if err != nil || rec.GetEnd() != nil {
			return out, err
		}
		out = append(out, rec)
	}
}

// CloseSnapshot makes a snapshot of records, whatever they say, with a right checksum.
func CloseSnapshot(recs []*logv1.SnapshotRecord) []byte {
	var buf bytes.Buffer
	w := newRecordWriter(&buf)
	w.write([]byte(snapshotMagic))
	for _, r := range recs {
		w.put(r)
	}
	if err := w.end(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// Since is the table of what each kind of command needs.
func Since() map[protowire.Number]uint32 { return since }
