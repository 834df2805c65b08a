package run

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// readApplied reads what "seatkeeper debug log" prints in the server's own form, and
// makes the history's form of it.
func readApplied(r io.Reader, node string) (*history.Audit, error) {
	var out bytes.Buffer
	in := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return history.ReadAuditJSON(&out, node)
		}
		if err != nil {
			return nil, err
		}
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			return nil, fmt.Errorf("applied log of %s, line %d: %w", node, n, err)
		}
		if entry = plainEntry(entry); entry == nil {
			continue
		}
		text, err := json.Marshal(entry)
		if err != nil {
			return nil, err
		}
		out.Write(append(text, '\n'))
	}
}

// whole puts before a node's final log what a snapshot has swallowed of it, as the node
// told it when it applied it. What it told of later entries is left out, because the
// final log says what lasted; but where it told another hash of the very same entry,
// that is noted.
func whole(final, told *history.Audit) *history.Audit {
	if len(final.Entries) == 0 {
		return final
	}
	list := once(told).Entries
	noteOther(final.Entries, list)
	begins := final.Entries[0].Index
	if !final.Entries[0].Snapshot {
		return final
	}
	before := slices.DeleteFunc(list, func(e history.Entry) bool { return e.Index > begins })
	return &history.Audit{Node: final.Node, Entries: append(before, final.Entries...)}
}

// noteOther sets Told in the entries of which a node told another hash than the replay
// of its log gives. Entries that a lying disk lost, and others took the place of, differ in
// more than the hash and are passed over.
func noteOther(final, told []history.Entry) {
	at := map[uint64]*history.Entry{}
	for i := range final {
		if e := &final[i]; !e.Snapshot && !e.Stale {
			at[e.Index] = e
		}
	}
	for i := range told {
		x := &told[i]
		e := at[x.Index]
		if e != nil && !x.Stale && x.Term == e.Term && x.NowNS == e.NowNS && len(x.Commands) == len(e.Commands) && x.Hash != e.Hash {
			e.Told = x.Hash
		}
	}
}

// once leaves out what a node told again after a restart. What it told otherwise than
// before is kept, to be seen.
func once(told *history.Audit) *history.Audit {
	seen := map[uint64]string{}
	var list []history.Entry
	for _, e := range told.Entries {
		if hash, again := seen[e.Index]; e.Snapshot || again && hash == e.Hash {
			continue
		}
		seen[e.Index] = e.Hash
		list = append(list, e)
	}
	slices.SortStableFunc(list, func(a, b history.Entry) int { return cmp.Compare(a.Index, b.Index) })
	return &history.Audit{Node: told.Node, Entries: list}
}

// plainEntry brings one line into the history's form; nil for lines that are no entry.
func plainEntry(e map[string]any) map[string]any {
	if s, ok := e["snapshot"].(map[string]any); ok {
		return map[string]any{"snapshot": true, "index": s["index"], "term": s["term"], "epoch": s["epoch"], "now_ns": s["now_ns"],
			"calendar_ms": s["calendar_ms"], "hash": e["hash"]}
	}
	if e["index"] == nil {
		return nil
	}
	// The server tells the proposer's wall clock under that name.
	e["wall_ms"] = e["calendar_ms"]
	delete(e, "calendar_ms")
	if e["lead"] != nil {
		delete(e, "epoch") // it begins its own
	}
	commands, _ := e["commands"].([]any)
	for _, c := range commands {
		if m, ok := c.(map[string]any); ok {
			plainCommand(m)
		}
	}
	return e
}

func plainCommand(c map[string]any) {
	if p, ok := c["principal"].(map[string]any); ok {
		for _, key := range []string{"user", "host", "display", "vendor_defined"} {
			if v, ok := p[key]; ok {
				c[key] = v
			}
		}
		delete(c, "principal")
	}
	switch refs, _ := c["refs"].([]any); c["kind"] {
	case history.KindExpire:
		if len(refs) == 1 {
			if r, ok := refs[0].(map[string]any); ok {
				c["id"], c["token"] = r["id"], r["token"]
			}
		}
		delete(c, "refs")
	case history.KindRemove:
		if l, ok := c["licence"].(map[string]any); ok {
			c["licence_id"] = l["id"]
		}
		delete(c, "licence")
	case history.KindInstall:
		if l, ok := c["licence"].(map[string]any); ok {
			plainLicence(l)
		}
	}
	if n, ok := c["reason"].(float64); ok {
		c["reason"] = releaseName(int(n))
	}
}

// releaseName is the API's word for the number of a release reason, as far as a
// client can ask for one.
func releaseName(n int) string {
	switch n {
	case 1:
		return "normal"
	case 2:
		return "client_exit"
	case 5:
		return "linger_over"
	}
	return fmt.Sprintf("release_%d", n)
}

// The letters of a share rule, by the bit of the mask.
const shareLetters = "uhdv"

func plainLicence(l map[string]any) {
	list, _ := l["entitlements"].([]any)
	for _, x := range list {
		e, ok := x.(map[string]any)
		if !ok {
			continue
		}
		if mask, ok := e["share_by"].(float64); ok {
			letters := ""
			for i, letter := range shareLetters {
				if int(mask)&(1<<i) != 0 {
					letters += string(letter)
				}
			}
			e["share_by"] = letters
		}
		e["share_max"] = e["share_max_sessions"]
		delete(e, "share_max_sessions")
	}
}
