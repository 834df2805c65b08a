package main

import (
	"fmt"
	"strings"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (d *doctor) judgeDisk(node string, p *pb.DiskProbe) {
	if p == nil {
		return
	}
	free := float64(p.FreeBytes) / float64(max(p.TotalBytes, 1))
	space := fmt.Sprintf("%s: %s has %s free of %s (%d %%)", node, p.Dir, sizeText(p.FreeBytes), sizeText(p.TotalBytes), int(free*100))
	const do = "free space or enlarge the disk; the runbook, The disk is nearly full"
	switch {
	case p.TotalBytes == 0:
	case free < spaceFail:
		d.fail("disk/space", node, space+": as leader it grants no new seats", do)
	case free < spaceWarn:
		d.warn("disk/space", node, space, do)
	default:
		d.ok("disk/space", node, "%s", space)
	}
	if p.Error != "" {
		d.fail("disk", node, fmt.Sprintf("%s: the disk of %s cannot be used: %s", node, p.Dir, p.Error), "look at the kernel's log (dmesg) and the disk; a node on a broken disk is replaced (runbook, A node is lost)")
		return
	}
	if p.Fsyncs == 0 {
		return
	}
	median, worst := time.Duration(p.FsyncMedianUs)*time.Microsecond, time.Duration(p.FsyncMaxUs)*time.Microsecond
	text := fmt.Sprintf("%s: a synced write takes %s, at worst %s", node, median.Round(10*time.Microsecond), worst.Round(10*time.Microsecond))
	const slow = "put data_dir on a local SSD that nobody else keeps busy; no network file system"
	switch {
	case median > syncFail:
		d.fail("disk/sync", node, text+": leaders lose their leadership by that", slow)
	case median > syncWarn:
		d.warn("disk/sync", node, text+": every checkout waits for it", slow)
	default:
		d.ok("disk/sync", node, "%s", text)
	}
}

func sizeText(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// judgeNode looks at the rest of what a node says of itself.
func (d *doctor) judgeNode(w *pb.ExamineResponse) {
	if l := w.Limits; l.GetOpenFiles() > 0 {
		if need := uint64(l.Connections) + spareFiles; l.OpenFiles < need {
			d.warn("limits", w.Name, fmt.Sprintf("%s may open %d files; its %d connections need %d", w.Name, l.OpenFiles, l.Connections, need),
				"set LimitNOFILE= in the unit (the packaged one does), or lower limits.connections")
		} else {
			d.ok("limits", w.Name, "%s may open %d files, enough for %d connections", w.Name, l.OpenFiles, l.Connections)
		}
	}
	for _, c := range w.Certificates {
		from, err1 := time.Parse(time.RFC3339, c.NotBefore)
		to, err2 := time.Parse(time.RFC3339, c.NotAfter)
		if err1 != nil || err2 != nil {
			continue
		}
		if c.Use == "ca" {
			d.judgeSpan("tls/dates", w.Name, fmt.Sprintf("the CA certificate %s on %s", c.Subject, w.Name), c.Fingerprint, from, to, "make a new CA and let all trust both for a while (runbook, Rotate certificates and keys)")
			continue
		}
		d.judgeSpan("tls/dates", w.Name, fmt.Sprintf("the certificate %s that %s uses", c.Subject, w.Name), c.Fingerprint, from, to,
			"seatkeeper tls cert create "+w.Name+" in the folder of the CA, put the files in place, key first, and systemctl reload seatkeeper")
	}
	if w.HistoryTrouble != "" {
		d.warn("history", w.Name, fmt.Sprintf("the history of usage and denials on %s is not whole: %s", w.Name, w.HistoryTrouble), "ask another node for usage of that time (--addr)")
	}
	for _, m := range w.RaftState.GetMembers() {
		if m.Health == "failed" && m.Id != w.Id {
			d.warn("gossip", w.Name, fmt.Sprintf("%s hears nothing of %s by gossip", w.Name, m.Id), "is that node up? Else open TCP and UDP on the gossip port both ways")
		}
	}
}

// judgeAlarms passes alarms on, each once: all nodes know of those of the cluster.
func (d *doctor) judgeAlarms(nodes []*visit) {
	by := map[string][]string{}
	for _, v := range nodes {
		for _, alarm := range v.who.Alarms {
			by[alarm] = append(by[alarm], v.who.Name)
		}
	}
	for _, alarm := range sortedKeys(by) {
		d.warn("alarm", strings.Join(by[alarm], ", "), alarm, "the runbook has a page for each alarm; it goes when its cause does")
	}
}
