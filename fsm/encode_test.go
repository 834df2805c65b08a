package fsm_test

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// The packed columns of a RenewMany as they were released.
func TestPackedSessionsKeepTheirForm(t *testing.T) {
	const golden = "2a546a520a50" + // field 5 of the entry, field 13 of the command, field 1
		"01000000000000000000000000000000" + "02000000000000000000000000000000" + "0000000000000003" +
		"04000000000000000000000000000000" + "05000000000000000000000000000000" + "0000000000000000"
	many := lease.RenewMany{Sessions: []lease.Heartbeat{
		{ID: lease.SessionID{1}, Digest: lease.SecretDigest{2}, Incarnation: 3},
		{ID: lease.SessionID{4}, Digest: lease.SecretDigest{5}},
	}}
	got, err := fsm.EncodeCommand(many)
	if err != nil || hex.EncodeToString(got) != golden {
		t.Fatalf("%x, %v\nwant %s", got, err, golden)
	}
	data, err := fsm.JoinBatch(1, 2, 3, []fsm.Encoded{got})
	if err != nil {
		t.Fatal(err)
	}
	e, err := fsm.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if back := fsm.FromCommand(e.Commands[0]); !reflect.DeepEqual(back, many) {
		t.Errorf("came back as %+v", back)
	}
	e.Commands[0].GetRenewMany().Sessions = e.Commands[0].GetRenewMany().Sessions[1:]
	if back := fsm.FromCommand(e.Commands[0]); back != nil {
		t.Errorf("half a session came back as %+v", back)
	}
}

func TestOnlyAWholeBatchIsJoined(t *testing.T) {
	tick, err := fsm.EncodeCommand(lease.Tick{})
	if err != nil {
		t.Fatal(err)
	}
	many := make([]fsm.Encoded, fsm.MaxBatch+1)
	for i := range many {
		many[i] = tick
	}
	if _, err := fsm.JoinBatch(1, 1, 1, many); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too many commands: %v", err)
	}
	big, err := fsm.EncodeCommand(lease.InstallLicence{Licence: lease.Licence{Text: make([]byte, fsm.MaxEntryBytes)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.JoinBatch(1, 1, 1, []fsm.Encoded{big}); err == nil {
		t.Error("an entry over the limit is made")
	}
}

// Strings out of files are no words of the API: what is not UTF-8 is refused before the log has it.
func TestWhatComesOutOfFilesIsUTF8(t *testing.T) {
	for name, cmd := range map[string]lease.Command{
		"a licence":  lease.InstallLicence{Licence: lease.Licence{ID: "a\xffb"}},
		"its number": lease.RemoveLicence{Tenant: "default", ID: "a\xffb"},
		"a policy":   lease.ApplyPolicy{Policy: lease.Policy{Tenant: "a\xffb"}},
		"a kill":     lease.Kill{By: "a\xffb"},
	} {
		if _, err := fsm.EncodeCommand(cmd); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
