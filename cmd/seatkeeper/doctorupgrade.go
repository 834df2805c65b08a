package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// judgeLogVersion finds who holds the version of the log down: new commands are refused
// until every member understands them.
func (d *doctor) judgeLogVersion(nodes []*visit) {
	at, highest := uint32(0), uint32(0)
	for _, v := range nodes {
		at, highest = max(at, v.who.LogVersion), max(highest, v.who.LogVersionUnderstood)
	}
	if highest == 0 {
		return // no node tells
	}
	held := false
	for _, v := range nodes {
		if u := v.who.LogVersionUnderstood; u > 0 && u < highest {
			held = true
			d.warn("version/log", v.who.Name, fmt.Sprintf("%s understands log version %d and others %d: the cluster stays at %d, and what is new is refused", v.who.Name, u, highest, at),
				"upgrade it; seatkeeper operator upgrade shows which node is next (runbook, Upgrade)")
		}
	}
	switch silent := d.silentMembers(nodes); {
	case held:
	case at >= highest:
		d.ok("version/log", "", "the log is at version %d, and all nodes understand it", at)
	case len(silent) > 0:
		d.warn("version/log", "", fmt.Sprintf("the log stays at version %d and all that answer understand %d: it waits for %s", at, highest, strings.Join(silent, ", ")),
			"start it, or remove it from the members (runbook, A node is lost)")
	}
}

// silentMembers are members of which no node that answers is.
func (d *doctor) silentMembers(nodes []*visit) (ids []string) {
	for _, v := range nodes {
		for _, m := range v.who.RaftState.GetMembers() {
			there := slices.ContainsFunc(nodes, func(o *visit) bool { return o.who.Id == m.Id })
			if !there && !slices.Contains(ids, m.Id) {
				ids = append(ids, m.Id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// judgeTokens says which access tokens end soon, each once: all nodes know of the same.
func (d *doctor) judgeTokens(nodes []*visit) {
	var ends []*pb.TokenEnd
	required := false
	for _, v := range nodes {
		required = required || v.who.TokensRequired
		for _, x := range v.who.TokensEnding {
			if !slices.ContainsFunc(ends, func(o *pb.TokenEnd) bool { return o.Id == x.Id }) {
				ends = append(ends, x)
			}
		}
	}
	for _, x := range ends {
		at, err := time.Parse(time.RFC3339, x.Expires)
		if err != nil {
			continue
		}
		do := fmt.Sprintf("seatkeeper token list says what it is for; seatkeeper token create --role %s makes another, and seatkeeper token revoke %s takes this one away", x.Role, x.Id)
		if left := at.Sub(d.now()); left > 0 {
			d.warn("token/dates", x.Id, fmt.Sprintf("the token %s of the role %s ends in %d days, on %s", x.Id, x.Role, int(left.Hours()/24), at.Format(time.DateOnly)), do)
		} else {
			d.warn("token/dates", x.Id, fmt.Sprintf("the token %s of the role %s ended on %s: whoever uses it is refused", x.Id, x.Role, at.Format(time.DateOnly)), do)
		}
	}
	if required && len(ends) == 0 {
		d.ok("token/dates", "", "no token ends within %d days", int(expirySoon.Hours()/24))
	}
}
