package history

import (
	"bytes"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestALineReadsBackAsItWas(t *testing.T) {
	ops := []Op{
		{Index: 0, Time: 5, Process: 3, Type: Invoke, F: FCheckout, Client: "c3", Request: "r1", Session: "00ff", Incarnation: 1, Seq: 2,
			Value: &Checkout{Items: []Item{{Feature: "cad", Count: 2}}, User: `a"n\n`, Host: "ws 1\n\té"}},
		{Index: 1, Time: 9, Process: 3, Type: OK, F: FCheckout, RaftIndex: 1 << 63, Term: 4, Node: "n1",
			Value: &Checkout{Items: []Item{{Feature: "cad", Count: 2}}, Result: Granted, Leases: []Lease{{ID: 7, Token: 9, Feature: "cad", Count: 2, Seats: []int{1, 2}, RemainingMS: 4000}}}},
		{Index: 2, Time: 9, Process: Nemesis, Type: Info, F: FStart, Value: &Fault{ID: "f1", Family: "partition-halves", Nodes: []string{"n1"}}},
		{Index: 3, Time: 10, Process: Observer, Type: Info, F: FBelieve, Client: "c3", Value: &Believe{Lease: Lease{ID: 7}, At: 9, Until: 80}},
		{Index: 4, Time: 11, Process: 4, Type: Info, F: FRenew, Error: "deadline exceeded"},
		{Index: 5, Time: 12, Process: 5, Type: OK, F: FVerify, Value: &Verify{ID: 1, Token: 2, Result: Done}},
	}
	var file bytes.Buffer
	times := 0
	w := NewWriter(&file, func() time.Duration { times++; return time.Duration(ops[times-1].Time) })
	for _, op := range ops {
		w.Append(op)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, ops) {
		t.Errorf("read back\n%+v\nwrote\n%+v", got, ops)
	}
	if n := strings.Count(file.String(), "\n"); n != len(ops) {
		t.Errorf("%d lines for %d operations", n, len(ops))
	}
}

func TestTheFormIsJepsens(t *testing.T) {
	op := Op{Index: 2, Time: 12, Process: 1, Type: OK, F: FCheckout, Value: &Checkout{Items: []Item{{Feature: "cad", Count: 1}}, Result: "no_seats"}}
	want := `{:index 2, :time 12, :process 1, :type :ok, :f :checkout, :value {:items [{:feature "cad", :count 1}], :result :no_seats}}`
	if got := string(MarshalEDN(op)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(MarshalEDN(Op{Process: Nemesis, Type: Info, F: FStop})); !strings.Contains(got, ":process :nemesis, :type :info, :f :stop, :value nil") {
		t.Error(got)
	}
}

func TestEDNValues(t *testing.T) {
	for _, c := range []struct {
		text string
		want any
	}{
		{"nil", nil}, {"true", true}, {"-12", int64(-12)}, {"18446744073709551615", uint64(1<<64 - 1)}, {"12N", int64(12)}, {"1.5", 1.5},
		{":a/b", Keyword("a/b")}, {`"a\"\u0041\n"`, "a\"A\n"}, {"[1 2,3]", []any{int64(1), int64(2), int64(3)}},
		{"(1 #_2 3)", []any{int64(1), int64(3)}}, {"#{1}", []any{int64(1)}}, {`#inst "2026"`, "2026"},
		{"{:a 1 ; comment\n \"b\" [nil]}", map[any]any{Keyword("a"): int64(1), "b": []any{nil}}},
	} {
		got, err := ParseEDN([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, %v; want %#v", c.text, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "{:a}", "[1", `"a`, "1 2", "foo", "{:a 1", `"\q"`, strings.Repeat("[", 1000), "#", `"\u12`} {
		if v, err := ParseEDN([]byte(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}

func FuzzParseEDN(f *testing.F) {
	f.Add([]byte(`{:index 0, :value {:items [{:feature "cad"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseEDN(data)
		if err != nil {
			return
		}
		again, err := ParseEDN(MarshalEDN(v))
		if err != nil {
			t.Fatalf("%q became %q: %v", data, MarshalEDN(v), err)
		}
		if a, b := string(MarshalEDN(v)), string(MarshalEDN(again)); a != b {
			t.Fatalf("%q became %s and then %s", data, a, b)
		}
	})
}

func TestALineCutShortIsDropped(t *testing.T) {
	ops, err := Read(strings.NewReader("{:index 0, :time 1, :process 0, :type :invoke, :f :renew, :value nil}\n{:index 1, :ti"))
	if err != nil || len(ops) != 1 {
		t.Errorf("%d operations, %v", len(ops), err)
	}
	if _, err := Read(strings.NewReader("{:index 0}\n{:index\n{:index 2}\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("damage within the file: %v", err)
	}
}

func TestWriterIsSafeAndInOrder(t *testing.T) {
	var file bytes.Buffer
	start := time.Now()
	w := NewWriter(&file, func() time.Duration { return time.Since(start) })
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for range 100 {
				w.Append(Op{Process: Process(p), Type: Invoke, F: FRenew})
				w.Append(Op{Process: Process(p), Type: OK, F: FRenew})
			}
		})
	}
	wg.Wait()
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	ops, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := Pairs(ops)
	if err != nil || len(pairs) != 800 {
		t.Errorf("%d pairs, %v", len(pairs), err)
	}
}

func TestPairs(t *testing.T) {
	line := func(i int64, p Process, ty Type) Op { return Op{Index: i, Time: i, Process: p, Type: ty, F: FRenew} }
	for _, c := range []struct {
		name string
		ops  []Op
		want string // of the error
	}{
		{"two clients interleaved", []Op{line(0, 0, Invoke), line(1, 1, Invoke), line(2, 0, OK), line(3, 1, Fail), line(4, 0, Invoke)}, ""},
		{"a client goes on under a new number", []Op{line(0, 0, Invoke), line(1, 0, Info), line(2, NextProcess(0, 10), Invoke)}, ""},
		{"a process speaks after an info", []Op{line(0, 0, Invoke), line(1, 0, Info), line(2, 0, Invoke)}, "after an :info"},
		{"two operations at once", []Op{line(0, 0, Invoke), line(1, 0, Invoke)}, "under way"},
		{"a completion of nothing", []Op{line(0, 0, OK)}, "did not invoke"},
		{"time goes back", []Op{line(0, 0, Invoke), {Index: 1, Time: -1, Process: 0, Type: OK, F: FRenew}}, "does not follow"},
		{"a fault completes nothing", []Op{line(0, Nemesis, OK)}, "must be :info"},
	} {
		_, err := Pairs(c.ops)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestBeliefs(t *testing.T) {
	believe := func(at, until int64) Op {
		return Op{Process: Observer, Type: Info, F: FBelieve, Client: "c", Session: "s", Value: &Believe{Lease: Lease{ID: 1, Seats: []int{1}}, At: at, Until: until}}
	}
	lost := func(at int64) Op {
		return Op{Process: Observer, Type: Info, F: FLost, Client: "c", Session: "s", Value: &Lost{ID: 1, At: at, Cause: CauseReleased}}
	}
	for _, c := range []struct {
		name string
		ops  []Op
		want [][2]int64
	}{
		{"to its deadline", []Op{believe(10, 50)}, [][2]int64{{10, 50}}},
		{"renewed", []Op{believe(10, 50), believe(40, 80)}, [][2]int64{{10, 80}}},
		{"an older answer does not shorten it", []Op{believe(10, 50), believe(20, 30)}, [][2]int64{{10, 50}}},
		{"released", []Op{believe(10, 50), lost(30)}, [][2]int64{{10, 30}}},
		{"it ran out, and came back", []Op{believe(10, 50), believe(60, 90)}, [][2]int64{{10, 50}, {60, 90}}},
		{"lost after its deadline", []Op{believe(10, 50), lost(70)}, [][2]int64{{10, 50}}},
		{"an answer that came too late", []Op{believe(60, 50)}, nil},
	} {
		var got [][2]int64
		for _, b := range Beliefs(c.ops) {
			got = append(got, [2]int64{b.From, b.To})
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAnAuditIsTheSameInBothForms(t *testing.T) {
	const asJSON = `{"index":"7","term":2,"epoch":5,"stamp_ns":"1000","now_ns":1000,"calendar_ms":1,"hash":"ab","has_ended":true,` +
		`"commands":[{"kind":"checkout","session":"00ff","instance_id":"c1","items":[{"feature":"cad","count":1}],` +
		`"result":{"leases":[{"id":"16777217","token":"7","feature":"cad","count":1,"seats":[1],"deadline_ns":"5000","grace_ns":10}]},"new_field":{"x":[1]}}]}` + "\n"
	a, err := ReadAuditJSON(strings.NewReader(asJSON), "n1")
	if err != nil {
		t.Fatal(err)
	}
	want := Entry{Index: 7, Term: 2, Epoch: 5, StampNS: 1000, NowNS: 1000, CalendarMS: 1, Hash: "ab", HasEnded: true, Commands: []Command{{
		Kind: KindCheckout, Session: "00ff", InstanceID: "c1", Items: []Item{{Feature: "cad", Count: 1}},
		Result: CommandResult{Leases: []AuditLease{{ID: 16777217, Token: 7, Feature: "cad", Count: 1, Seats: []int{1}, DeadlineNS: 5000, GraceNS: 10}}},
	}}}
	if !reflect.DeepEqual(a.Entries, []Entry{want}) {
		t.Errorf("%+v", a.Entries)
	}
	var b bytes.Buffer
	if err := WriteAudit(&b, a); err != nil {
		t.Fatal(err)
	}
	again, err := ReadAudit(&b, "n1")
	if err != nil || !reflect.DeepEqual(again, a) {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := ReadAuditJSON(strings.NewReader(`{"index":-1}`+"\n"), "n1"); err == nil {
		t.Error("a negative index was taken")
	}
}
