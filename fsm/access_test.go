package fsm_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// tokenLog is a state machine with a leader and a way to give it commands.
type tokenLog struct {
	t *testing.T
	*fsm.FSM
	index uint64
}

func newTokenLog(t *testing.T, cluster string) *tokenLog {
	t.Helper()
	l := &tokenLog{t: t, FSM: fsm.New(fsm.Options{}), index: 1}
	data, err := fsm.EncodeLead(fsm.Lead{Node: "n1", ClusterID: cluster}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	l.Apply(&raft.Log{Index: 1, Term: 1, Data: data})
	return l
}

func (l *tokenLog) add(cmds ...lease.Command) []lease.Reply {
	l.t.Helper()
	st := l.Status()
	data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now.Add(time.Second), st.Calendar+1000, cmds)
	if err != nil {
		l.t.Fatal(err)
	}
	l.index++
	replies := l.Apply(&raft.Log{Index: l.index, Term: 1, Data: data}).(fsm.Outcome).Replies
	for _, r := range replies {
		if r.Refusal != nil {
			l.t.Fatal(r.Refusal.Message)
		}
	}
	return replies
}

func newToken(n byte, role access.Role) (string, access.Token) {
	text := access.Text([access.IDBytes]byte{n}, [access.SecretBytes]byte{n})
	id, digest, _ := access.Parse(text)
	return text, access.Token{ID: id, Digest: digest, Role: role}
}

func (l *tokenLog) accepts(text string) bool {
	table, today := l.Access()
	token, _ := table.Judge(text, today)
	return token != nil
}

func (l *tokenLog) goBackTo(file []byte, b *fsm.Backup) {
	l.t.Helper()
	l.add(fsm.RestorePart{Sum: b.Sum, Data: file})
	l.add(fsm.Restore{Sum: b.Sum, Size: uint64(len(file)), ClusterID: b.Header.ClusterID, BackupIndex: b.Header.Index})
}

func TestTokensSurviveASnapshotAndOnlyTheirDigestsAreInIt(t *testing.T) {
	l := newTokenLog(t, "c1")
	var open bytes.Buffer
	if _, err := l.WriteTo(&open); err != nil {
		t.Fatal(err)
	}
	text, admin := newToken(1, access.Admin)
	client, bound := newToken(2, access.Client)
	bound.Tenant, bound.User, bound.Description, bound.Expires = "acme", "ann", "for tests", 1<<40
	_, spare := newToken(3, access.Admin)
	l.add(fsm.CreateToken{Token: admin, First: true}, fsm.CreateToken{Token: bound}, fsm.CreateToken{Token: spare, Reset: true})
	var file bytes.Buffer
	if _, err := l.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{text, client, text[len(text)-64:]} {
		raw, _ := hex.DecodeString(secret)
		if bytes.Contains(file.Bytes(), []byte(secret)) || len(raw) > 0 && bytes.Contains(file.Bytes(), raw) {
			t.Error("the secret of a token is in the snapshot")
		}
	}
	again := newTokenLog(t, "c2")
	if err := again.Restore(io.NopCloser(bytes.NewReader(file.Bytes()))); err != nil {
		t.Fatal(err)
	}
	if !again.accepts(text) || !again.accepts(client) {
		t.Error("a token is not accepted after the restore")
	}
	want, _ := l.Access()
	got, _ := again.Access()
	if len(got.List()) != 3 || got.List()[1] != want.List()[1] {
		t.Errorf("got %+v, want %+v", got.List(), want.List())
	}
	// An older snapshot takes the tokens away again: the log has what came since.
	if err := again.Restore(io.NopCloser(bytes.NewReader(open.Bytes()))); err != nil {
		t.Fatal(err)
	}
	if again.accepts(text) {
		t.Error("a token outlives the state it was of")
	}
}

func TestRestoreOfABackupBringsNoRevokedTokenBack(t *testing.T) {
	l := newTokenLog(t, "c1")
	adminText, admin := newToken(1, access.Admin)
	leakedText, leaked := newToken(2, access.Operator)
	l.add(fsm.CreateToken{Token: admin, First: true}, fsm.CreateToken{Token: leaked})
	file, b := backupOf(t, l.FSM)
	l.add(fsm.RevokeToken{ID: leaked.ID})
	l.goBackTo(file, b)
	if l.accepts(leakedText) || !l.accepts(adminText) {
		t.Errorf("revoked token accepted: %v, admin's accepted: %v", l.accepts(leakedText), l.accepts(adminText))
	}
	// In a new cluster, which takes the place of the lost one, they are all there.
	fresh := newTokenLog(t, "c2")
	fresh.goBackTo(file, b)
	if !fresh.accepts(leakedText) || !fresh.accepts(adminText) {
		t.Error("the tokens of the lost cluster are lost too")
	}
}
