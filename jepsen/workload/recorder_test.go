package workload

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func TestErrorsAreAnswersOnlyWhenTheServiceGaveThem(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   history.Type
		result history.Result
	}{
		{&client.Error{Reason: "no_seats"}, history.OK, "no_seats"},
		{&client.Error{Reason: "overloaded"}, history.OK, "overloaded"},
		{&client.Error{Reason: client.Unreachable}, history.Fail, ""},
		{&client.Error{Reason: client.NotLeader}, history.Fail, ""},
		{&client.Error{Reason: client.UnknownOutcome}, history.Info, ""},
		{&client.Error{Reason: client.Closed}, history.Info, ""},
		{context.DeadlineExceeded, history.Info, ""},
		{errors.New("anything"), history.Info, ""},
	} {
		if typ, result, _ := judge(c.err); typ != c.want || result != c.result {
			t.Errorf("%v is :%s %s, want :%s %s", c.err, typ, result, c.want, c.result)
		}
	}
}

func recorded(t *testing.T, concurrency int, do func(*Recorder)) []history.Op {
	t.Helper()
	var b bytes.Buffer
	began := time.Now()
	w := history.NewWriter(&b, func() time.Duration { return time.Since(began) })
	do(NewRecorder(w, concurrency))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	ops, err := history.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	return ops
}

func TestAClientGoesOnUnderAnotherNumberWhenNobodyKnows(t *testing.T) {
	const concurrency = 5
	ops := recorded(t, concurrency, func(r *Recorder) {
		first, second := r.voice("a", "grpc"), r.voice("b", "grpc")
		ask := func(v *voice, err error) {
			v.do(history.Op{F: history.FCheckin, Value: &history.Checkin{}}, func() outcome {
				return outcome{value: &history.Checkin{Result: history.Done}, err: err}
			})
		}
		ask(first, nil)
		ask(first, &client.Error{Reason: client.UnknownOutcome})
		ask(first, nil)
		ask(second, &client.Error{Reason: client.Unreachable})
		ask(second, nil)
	})
	var got []history.Process
	for _, op := range ops {
		if op.Type == history.Invoke {
			got = append(got, op.Process)
		}
	}
	want := []history.Process{0, 0, concurrency, 1, 1}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("processes are %v, want %v", got, want)
		}
	}
	if _, err := history.Pairs(ops); err != nil {
		t.Error(err)
	}
}

func TestARefusalKeepsTheRequestAndItsReason(t *testing.T) {
	ask := &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}}
	ops := recorded(t, 1, func(r *Recorder) {
		r.voice("a", "http").do(history.Op{F: history.FCheckout, Value: ask}, func() outcome {
			return outcome{err: &client.Error{Reason: "no_seats", Final: false}}
		})
	})
	done, ok := ops[1].Value.(*history.Checkout)
	if !ok || ops[1].Type != history.OK || done.Result != "no_seats" || len(done.Items) != 1 {
		t.Errorf("the completion is %+v %+v", ops[1], ops[1].Value)
	}
	if ask.Result != "" {
		t.Error("the request itself was changed")
	}
}

func TestTheResourceTakesNoOlderToken(t *testing.T) {
	r := &Resource{Name: "press"}
	for i, c := range []struct {
		token uint64
		want  bool
	}{{5, true}, {5, true}, {4, false}, {9, true}, {5, false}} {
		accepted, order, _ := r.Write(c.token, "")
		if accepted != c.want || order != uint64(i+1) {
			t.Errorf("write %d with token %d: accepted %v as number %d", i+1, c.token, accepted, order)
		}
	}
}

// here is a place on this machine.
var here = Place{Name: "here", Dial: (&net.Dialer{}).DialContext}

func TestPlainHTTPKnowsWhetherItWasHeard(t *testing.T) {
	answer := http.StatusOK
	body := `{"released":[],"raft_index":"7","term":"2"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer == 0 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		w.WriteHeader(answer)
		_, _ = w.Write([]byte(body))
	}))
	address := server.Listener.Addr().String()
	a := newHTTP(here, []string{address}, func(int) int { return 0 })
	call := func() (*pb.CheckinResponse, error) {
		return a.Checkin(t.Context(), &pb.CheckinRequest{SessionId: "s", Seq: 1})
	}
	if resp, err := call(); err != nil || resp.RaftIndex != 7 {
		t.Errorf("answer %v, %v", resp, err)
	}
	answer, body = http.StatusConflict, `{"reason":"fenced","message":"no","final":true}`
	if _, err := call(); reasonOf(err) != fenced {
		t.Errorf("a refusal is %v", err)
	}
	answer = 0
	if _, err := call(); client.ReasonOf(err) != client.UnknownOutcome {
		t.Errorf("no answer to what was sent is %v", err)
	}
	server.Close()
	a.Drop()
	if _, err := call(); client.ReasonOf(err) != client.Unreachable {
		t.Errorf("nobody there is %v", err)
	}
}
