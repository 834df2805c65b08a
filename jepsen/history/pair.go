package history

import "fmt"

// Pair is an invocation with its completion. Done is nil if the run ended before one was
// noted, which is the same as :info.
type Pair struct {
	Invoke, Done *Op
}

// OK says that a definite answer came.
func (p Pair) OK() bool { return p.Done != nil && p.Done.Type == OK }

// Failed says that it certainly did not happen.
func (p Pair) Failed() bool { return p.Done != nil && p.Done.Type == Fail }

// Unknown says that it may or may not have happened, or will yet.
func (p Pair) Unknown() bool { return p.Done == nil || p.Done.Type == Info }

// Pairs matches the completions of clients with their invocations, in the order of the
// invocations. It is an error if a process has two operations at once, completes what it
// did not invoke, or speaks after an :info, and if times or indexes go back.
func Pairs(ops []Op) ([]Pair, error) {
	var pairs []Pair
	open := map[Process]int{} // place in pairs, plus one
	over := map[Process]bool{}
	for i := range ops {
		op := &ops[i]
		if i > 0 && (op.Index <= ops[i-1].Index || op.Time < ops[i-1].Time) {
			return nil, fmt.Errorf("history: operation %d does not follow %d", op.Index, ops[i-1].Index)
		}
		if !op.IsClient() {
			if op.Type != Info {
				return nil, fmt.Errorf("history: operation %d: %s by no client must be :info", op.Index, op.F)
			}
			continue
		}
		at := open[op.Process]
		switch op.Type {
		case Invoke:
			if over[op.Process] {
				return nil, fmt.Errorf("history: operation %d: process %d goes on after an :info", op.Index, op.Process)
			}
			if at != 0 {
				return nil, fmt.Errorf("history: operation %d: process %d has an operation under way", op.Index, op.Process)
			}
			pairs = append(pairs, Pair{Invoke: op})
			open[op.Process] = len(pairs)
		case OK, Fail, Info:
			if at == 0 || pairs[at-1].Invoke.F != op.F {
				return nil, fmt.Errorf("history: operation %d: process %d completes a %s it did not invoke", op.Index, op.Process, op.F)
			}
			pairs[at-1].Done = op
			delete(open, op.Process)
			over[op.Process] = op.Type == Info
		default:
			return nil, fmt.Errorf("history: operation %d has the type %q", op.Index, op.Type)
		}
	}
	return pairs, nil
}
