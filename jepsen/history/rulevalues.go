package history

// Leave gives up every place of a session in the queue, and what was granted from it and
// not collected yet.
type Leave struct {
	Result   Result  `edn:"result,omitempty"`
	Released []Ended `edn:"released,omitempty"`
}

// Book keeps seats for the job ID for so long (FBook), or lets go of them (FCancel).
type Book struct {
	ID    string `edn:"id"`
	Items []Item `edn:"items,omitempty"`
	ForMS int64  `edn:"for-ms,omitempty"`
	User  string `edn:"user,omitempty"` // who alone may use it

	Result   Result `edn:"result,omitempty"`
	Replayed bool   `edn:"replayed,omitempty"`
}

// Borrow takes one seat offline until now + TermMS.
type Borrow struct {
	Item   Item   `edn:"item"`
	TermMS int64  `edn:"term-ms"`
	User   string `edn:"user,omitempty"`
	Host   string `edn:"host,omitempty"`

	Result   Result  `edn:"result,omitempty"`
	Replayed bool    `edn:"replayed,omitempty"`
	Leases   []Lease `edn:"leases,omitempty"`
}

// Return gives a borrowed lease back (FReturn), or is an operator's word that it may not be
// used any more (FRevoke).
type Return struct {
	ID    uint64 `edn:"id"`
	Token uint64 `edn:"token,omitempty"`

	Result   Result  `edn:"result,omitempty"`
	Released []Ended `edn:"released,omitempty"`
}

// Policy puts another policy in place; Name is the workload's for it.
type Policy struct {
	Name string `edn:"name"`

	Result  Result `edn:"result,omitempty"`
	Version uint64 `edn:"version,omitempty"`
}
