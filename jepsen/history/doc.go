// Package history is what a run of the chaos harness leaves behind to be judged: the
// operations that clients invoked and how they ended, the faults that were made, what
// the clients believed, and the log that each node applied.
//
// It is written as EDN, one map a line, in the form of Jepsen's own histories, so that
// Knossos and Elle can read the same file:
//
//	{:index 0, :time 1200, :process 3, :type :invoke, :f :checkout, :value {…}}
//	{:index 1, :time 9100, :process 3, :type :ok, :f :checkout, :value {…, :result :granted}}
//
// The rules that every writer keeps, and every checker relies on:
//
//   - :ok means that the service gave a definite answer. A denial is an :ok whose value
//     has another :result than :granted or :done.
//   - :fail means that the operation certainly did not happen (nobody was reached, or a
//     node said "not applied").
//   - :info means that nobody knows. The process never speaks again: its client goes on
//     under a new number (see NextProcess).
//   - A completion repeats the request's part of the value and adds the answer's part.
//   - One invocation is one wish of the application, whatever the SDK retried beneath it.
//     Its identity is Op.Request, which a workload that asks again for the same thing
//     (after an :info) uses again.
//   - Times are nanoseconds of the harness's own monotonic clock since the run began.
//     An invocation is stamped before anything is sent, a completion after the answer
//     arrived, so that the true interval lies within the recorded one.
//
// Processes are integers. Faults are of :nemesis and facts that clients know about
// themselves are of :observer; both are of type :info and complete nothing.
package history
