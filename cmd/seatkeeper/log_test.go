package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

// With log.format json each entry of a server or an agent is one line and one object, whatever
// a client calls itself.
func TestLogsAreOneObjectALine(t *testing.T) {
	hostile := "ann\n{\"@message\":\"forged\",\"msg\":\"forged\"}\x1b[2J"
	for who, log := range map[string]func(out *bytes.Buffer){
		"server": func(out *bytes.Buffer) {
			newLogger(Log{Level: "info", Format: "json"}, out).Named("api").Warn("refused", "user", hostile, "tries", 3)
		},
		"agent": func(out *bytes.Buffer) {
			agentLogger("json", out, &slog.LevelVar{}).Warn("refused", "user", hostile, "tries", 3)
		},
	} {
		var out bytes.Buffer
		log(&out)
		var entry map[string]any
		if err := json.Unmarshal(out.Bytes(), &entry); err != nil || strings.Count(out.String(), "\n") != 1 || !strings.HasSuffix(out.String(), "}\n") {
			t.Errorf("%s: %v: %q", who, err, out.String())
			continue
		}
		message, level := entry["@message"], entry["@level"]
		if who == "agent" {
			message, level = entry["msg"], entry["level"]
		}
		if message != "refused" || !strings.EqualFold(level.(string), "warn") || entry["user"] != hostile || entry["tries"] != 3.0 {
			t.Errorf("%s: %v", who, entry)
		}
	}
}
