package workload

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// Recorder writes what workers do into a history. It is safe for concurrent use.
type Recorder struct {
	w           *history.Writer
	concurrency int
	workers     atomic.Int64

	mu     sync.Mutex
	counts map[Count]int
}

// Count is one kind of outcome.
type Count struct {
	F      history.F
	Type   history.Type
	Result history.Result
}

// NewRecorder writes to w for up to concurrency workers.
func NewRecorder(w *history.Writer, concurrency int) *Recorder {
	return &Recorder{w: w, concurrency: concurrency, counts: map[Count]int{}}
}

// Counts are the outcomes so far.
func (r *Recorder) Counts() map[Count]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[Count]int, len(r.counts))
	for k, n := range r.counts {
		all[k] = n
	}
	return all
}

// Answered is how many operations were answered so far.
func (r *Recorder) Answered() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c, k := range r.counts {
		if c.Type == history.OK && c.F != history.FWrite {
			n += k
		}
	}
	return n
}

// Now is the history's clock.
func (r *Recorder) Now() int64 { return r.w.Now() }

// Phase marks a turn of the run.
func (r *Recorder) Phase(name string) {
	r.Nemesis(history.FPhase, &history.Phase{Name: name})
}

// Nemesis notes what is done to the service.
func (r *Recorder) Nemesis(f history.F, value any) history.Op {
	return r.w.Append(history.Op{Process: history.Nemesis, Type: history.Info, F: f, Value: value})
}

// voice is one worker's way to write: it has a process number, and takes another one
// after an operation whose outcome nobody knows.
type voice struct {
	r         *Recorder
	client    string
	transport string
	process   history.Process
	requests  int
}

// newRequest names a new wish of the client.
func (v *voice) newRequest() string {
	v.requests++
	return fmt.Sprintf("%s/%d", v.client, v.requests)
}

// Voice gives a worker its first process number.
func (r *Recorder) voice(client, transport string) *voice {
	return &voice{r: r, client: client, transport: transport, process: history.Process(r.workers.Add(1) - 1)}
}

// outcome is how an operation ended.
type outcome struct {
	value       any
	err         error
	index, term uint64
	node        string
	session     string
}

// do notes an operation around the call that carries it out. The value that call returns
// repeats the request; for an error it is completed here by the refusal's reason.
func (v *voice) do(op history.Op, call func() outcome) outcome {
	op.Process, op.Type, op.Client, op.Transport = v.process, history.Invoke, v.client, v.transport
	v.r.w.Append(op)
	o := call()
	done := op
	done.RaftIndex, done.Term, done.Node, done.Value = o.index, o.term, o.node, o.value
	if o.session != "" {
		done.Session = o.session
	}
	done.Type = history.OK
	if o.err != nil {
		var result history.Result
		done.Type, result, done.Error = judge(o.err)
		if done.Value == nil {
			done.Value = op.Value
		}
		if done.Type == history.OK {
			done.Value = refuse(done.Value, result, o.err)
			done.Error = ""
		}
	}
	v.r.w.Append(done)
	v.r.mu.Lock()
	v.r.counts[Count{done.F, done.Type, history.ResultOf(done.Value)}]++
	v.r.mu.Unlock()
	if done.Type == history.Info {
		v.process = history.NextProcess(v.process, v.r.concurrency)
	}
	return o
}

// fact notes what the client knows about itself.
func (v *voice) fact(f history.F, session string, value any) {
	v.r.w.Append(history.Op{Process: history.Observer, Type: history.Info, F: f, Value: value,
		Client: v.client, Session: session, Transport: v.transport})
}

// judge says what an error means for the history: a definite no is an answer.
func judge(err error) (history.Type, history.Result, string) {
	var e *client.Error
	if !errors.As(err, &e) {
		return history.Info, "", err.Error()
	}
	switch e.Reason {
	case client.Unreachable, client.NotLeader:
		return history.Fail, "", e.Error()
	case client.UnknownOutcome, client.Closed, "":
		return history.Info, "", e.Error()
	}
	return history.OK, history.Result(e.Reason), ""
}

// refuse puts a refusal's reason into a copy of a request's value.
func refuse(value any, result history.Result, err error) any {
	var e *client.Error
	errors.As(err, &e)
	switch v := value.(type) {
	case *history.Checkout:
		c := *v
		c.Result, c.Final, c.Position = result, e.Final, e.Position
		return &c
	case *history.Renew:
		c := *v
		c.Result = result
		return &c
	case *history.Checkin:
		c := *v
		c.Result = result
		return &c
	case *history.Kill:
		c := *v
		c.Result = result
		return &c
	case *history.Status:
		c := *v
		c.Result = result
		return &c
	case *history.Leases:
		c := *v
		c.Result = result
		return &c
	case *history.Verify:
		c := *v
		c.Result = result
		return &c
	}
	return refuseRule(value, result)
}
