package access

import (
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// mint makes a token with this number for its id and secret.
func mint(n byte, role Role) (string, Token) {
	text := Text([IDBytes]byte{n}, [SecretBytes]byte{n})
	id, digest, ok := Parse(text)
	if !ok {
		panic("a token is not read back")
	}
	return text, Token{ID: id, Digest: digest, Role: role}
}

func must(t *testing.T) func(*Table, *lease.Refusal) *Table {
	return func(table *Table, refusal *lease.Refusal) *Table {
		t.Helper()
		if refusal != nil {
			t.Fatal(refusal.Message)
		}
		return table
	}
}

func TestClusterIsOpenUntilTheFirstTokenAndNeverAgain(t *testing.T) {
	var table *Table
	_, admin := mint(1, Admin)
	_, viewer := mint(2, Viewer)
	if table.Enforced() {
		t.Error("an empty table asks for tokens")
	}
	if _, r := table.Create(viewer, false, 1); r == nil {
		t.Error("a token is made before the first admin's")
	}
	if _, r := table.Create(viewer, true, 1); r == nil {
		t.Error("the first token is a viewer's")
	}
	table = must(t)(table.Create(admin, true, 1))
	if !table.Enforced() {
		t.Error("with a token the table does not ask for one")
	}
	if _, r := table.Create(admin, true, 2); r != nil {
		t.Errorf("the same request sent twice: %s", r.Message)
	}
	_, second := mint(3, Admin)
	if _, r := table.Create(second, true, 1); r == nil || r.Reason != lease.Forbidden {
		t.Errorf("a second bootstrap: %+v", r)
	}
	if _, r := table.Revoke(admin.ID, 1); r == nil || r.Reason != lease.Forbidden {
		t.Errorf("the last admin's token is revoked: %+v", r)
	}
	table = must(t)(table.Create(second, false, 1))
	table = must(t)(table.Revoke(admin.ID, 1))
	if got := table.List(); len(got) != 1 || got[0].ID != second.ID {
		t.Errorf("%v is left", got)
	}
}

func TestOnlyTheWholeTokenInItsTimeIsAccepted(t *testing.T) {
	text, admin := mint(1, Admin)
	short, limited := mint(2, Client)
	limited.Expires = 100
	table := must(t)((*Table)(nil).Create(admin, true, 1))
	table = must(t)(table.Create(limited, false, 1))
	other := Text([IDBytes]byte{1}, [SecretBytes]byte{9}) // the id of one, the secret of nobody
	for _, c := range []struct {
		name, text string
		now        lease.Calendar
		want       bool
	}{
		{"right", text, 50, true},
		{"right, much later", text, 1 << 50, true},
		{"empty", "", 50, false},
		{"its id alone", text[:20], 50, false},
		{"one letter more", text + "0", 50, false},
		{"one letter changed", text[:len(text)-1] + "f", 50, false},
		{"the id of another", other, 50, false},
		{"in capitals", strings.ToUpper(text), 50, false},
		{"before its end", short, 99, true},
		{"at its end", short, 100, false},
	} {
		if token, problem := table.Judge(c.text, c.now); (token != nil) != c.want || (problem == "") != c.want {
			t.Errorf("%s: %v %q, want accepted: %v", c.name, token, problem, c.want)
		} else if strings.Contains(problem, "skt_") {
			t.Errorf("%s: the refusal shows the token: %s", c.name, problem)
		}
	}
}

func TestATableIsNeverChanged(t *testing.T) {
	_, a := mint(1, Admin)
	_, b := mint(2, Client)
	first := must(t)((*Table)(nil).Create(a, true, 1))
	second := must(t)(first.Create(b, false, 1))
	third := must(t)(second.Revoke(b.ID, 1))
	if len(first.List()) != 1 || len(second.List()) != 2 || len(third.List()) != 1 {
		t.Errorf("tables of %d, %d and %d tokens, want 1, 2 and 1", len(first.List()), len(second.List()), len(third.List()))
	}
}

func TestABackupDoesNotBringBackARevokedToken(t *testing.T) {
	_, a := mint(1, Admin)
	_, leaked := mint(2, Operator)
	backup := must(t)(must(t)((*Table)(nil).Create(a, true, 1)).Create(leaked, false, 1))
	now := must(t)(backup.Revoke(leaked.ID, 1))
	if got := now.After(backup, true).List(); len(got) != 1 {
		t.Errorf("after the restore there are %d tokens, want the one of before", len(got))
	}
	_, fresh := mint(3, Admin)
	empty := must(t)((*Table)(nil).Create(fresh, true, 1))
	if got := empty.After(backup, false).List(); len(got) != 3 {
		t.Errorf("a cluster in the place of a lost one has %d tokens, want those of both", len(got))
	}
	if got := (*Table)(nil).After(backup, true); len(got.List()) != 2 {
		t.Error("a cluster without tokens does not take those of the backup")
	}
}

func TestTokensHaveLimits(t *testing.T) {
	_, admin := mint(1, Admin)
	table := must(t)((*Table)(nil).Create(admin, true, 50))
	for name, spoil := range map[string]func(*Token){
		"no role":         func(x *Token) { x.Role = 0 },
		"role unknown":    func(x *Token) { x.Role = 9 },
		"expired":         func(x *Token) { x.Expires = 50 },
		"long user":       func(x *Token) { x.User = strings.Repeat("x", lease.MaxNameLen+1) },
		"control letters": func(x *Token) { x.Description = "a\nb" },
		"no digest":       func(x *Token) { x.Digest = Digest{} },
		"short id":        func(x *Token) { x.ID = "1" },
		"an id in use":    func(x *Token) { x.ID = admin.ID },
	} {
		_, x := mint(2, Client)
		spoil(&x)
		if _, r := table.Create(x, false, 50); r == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLoadRefusesWhatCannotBe(t *testing.T) {
	_, a := mint(1, Admin)
	_, b := mint(2, Viewer)
	for name, list := range map[string][]Token{"twice": {a, a}, "no admin": {b}, "impossible": {a, {ID: "x"}}} {
		if _, err := Load(list); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if table, err := Load([]Token{a, b}); err != nil || len(table.List()) != 2 {
		t.Errorf("%v %v", table, err)
	}
}

func TestResetMakesAnAdminsTokenAndNothingElse(t *testing.T) {
	_, admin := mint(1, Admin)
	_, fresh := mint(2, Admin)
	table := must(t)((*Table)(nil).Create(admin, true, 1))
	for what, change := range map[string]func(*Token){
		"a viewer's":   func(x *Token) { x.Role = Viewer },
		"a tenant's":   func(x *Token) { x.Tenant = "acme" },
		"a user's":     func(x *Token) { x.User = "ann" },
		"one that end": func(x *Token) { x.Expires = 1000 },
		"an id's twin": func(x *Token) { x.ID = admin.ID },
		"no digest":    func(x *Token) { x.Digest = Digest{} },
	} {
		x := fresh
		change(&x)
		if next, r := table.Reset(x, 2); r == nil || next != table {
			t.Errorf("%s is made by a reset", what)
		}
	}
	table = must(t)(table.Reset(fresh, 2))
	if again := must(t)(table.Reset(fresh, 3)); again != table || len(table.List()) != 2 {
		t.Errorf("there are %v", table.List())
	}
	// A full table leaves room for it, and is read back.
	full := make([]Token, 0, MaxTokens)
	for i := range MaxTokens {
		x := admin
		text := Text([IDBytes]byte{9, byte(i >> 8), byte(i)}, [SecretBytes]byte{1})
		x.ID, x.Digest, _ = Parse(text)
		full = append(full, x)
	}
	crowd, err := Load(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, r := crowd.Create(fresh, false, 2); r == nil {
		t.Error("one more than MaxTokens is made")
	}
	crowd = must(t)(crowd.Reset(fresh, 2))
	if _, err := Load(crowd.List()); err != nil {
		t.Error(err)
	}
}
