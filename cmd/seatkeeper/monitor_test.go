package main

import (
	"bytes"
	"strings"
	"testing"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Logs and findings quote what strangers sent: none of it steers the terminal.
func TestWhatStrangersSentDoesNotSteerTheTerminal(t *testing.T) {
	const line = "took a call: name=\x1b[2J\x1b]0;owned\x07\u202eann\n\tstack: here"
	for format, want := range map[string]string{"table": "\n    stack: here\n", "json": `{"line":"took a call`} {
		var out bytes.Buffer
		a := &app{stdout: &out, cfg: &loadedConfig{}}
		a.cfg.Client.Format = format
		if err := a.printLogLine(&pb.MonitorResponse{Line: line}); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); strings.ContainsAny(text, "\x1b\x07") || format == "table" && strings.Contains(text, "\u202e") || !strings.Contains(text, want) {
			t.Errorf("%s prints %q", format, text)
		}
	}
	var f findings
	f.fail("tls/name", "\x1b[2J", "it names \x1b[2J\r\nexample.com", "look")
	if x := f.list[0]; strings.ContainsAny(x.What, "\x1b\r\n") || !strings.Contains(x.What, "example.com") {
		t.Errorf("doctor says %q", x.What)
	}
}
