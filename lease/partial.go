package lease

// Refused is an item that a partial checkout did not get, and why.
type Refused struct {
	Item    Item
	Refusal *Refusal
}

// refusedItems lists what a partial checkout did not get.
func refusedItems(plans []plan) (out []Refused) {
	for i := range plans {
		if r := plans[i].refusal; r != nil {
			out = append(out, Refused{plans[i].item, r})
		}
	}
	return out
}

// nothing gives the refusal of a partial checkout that gets none of its items: that of
// the first one that may succeed later, else of the first.
func nothing(plans []plan) *Refusal {
	var first *Refusal
	for i := range plans {
		switch r := plans[i].refusal; {
		case r == nil:
			return nil
		case first == nil, first.Final && !r.Final:
			first = r
		}
	}
	return first
}

// lacksSeats says whether reclaiming what is due may help.
func lacksSeats(plans []plan, refusal *Refusal) bool {
	for i := range plans {
		if r := plans[i].refusal; r != nil && reclaimHelps(r) {
			return true
		}
	}
	return refusal != nil && reclaimHelps(refusal)
}
