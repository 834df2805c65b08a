package lease

import (
	"strings"
	"testing"
	"time"
)

// Check counts from the charges alone what caps and reservations are judged by: each
// counter that is wrong is found.
func TestCheckRecountsWhatAPolicyCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(b *Book)
		want  string
	}{
		{"a cap", func(b *Book) { b.policing.tenants[DefaultTenant].held[0]++ }, "rule 0 (max)"},
		{"a class of holders", func(b *Book) {
			x := b.policing.pools[1]
			for k := range x.held {
				x.held[k]++
			}
		}, "class of holder"},
		{"an unfilled reservation", func(b *Book) { b.policing.pools[1].short++ }, "unfilled"},
		{"a lingering seat", func(b *Book) { b.policing.lingering = nil }, "linger"},
		{"a policy", func(b *Book) { delete(b.policing.tenants, DefaultTenant) }, "compiled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewBook()
			ann := Subject{Type: SubjectUser, Name: "ann"}
			for i, cmd := range []Command{
				InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: DefaultTenant, Entitlements: []Entitlement{
					{Feature: "cad", Version: "1", Count: 9, Serial: "1", Profile: DefaultProfile},
				}}},
				ApplyPolicy{Policy: Policy{Rules: []Rule{
					{Kind: RuleMax, Feature: "cad", Who: ann, Seats: 3}, {Kind: RuleReserve, Feature: "cad", Who: ann, Seats: 2},
					{Kind: RuleLinger, Feature: "cad", Who: Subject{Type: SubjectUser, Name: "bob"}, Time: time.Hour},
				}}, Expected: AnyVersion},
				Checkout{Session: one(1), Principal: Principal{User: "ann"}, Items: []Item{{Feature: "cad", Count: 1}}},
				Checkout{Session: one(2), Principal: Principal{User: "bob"}, Items: []Item{{Feature: "cad", Count: 1}}},
				CheckIn{Session: one(2)},
			} {
				if r := b.Apply(uint64(i+1), cmd); r.Refusal != nil {
					t.Fatal(r.Refusal)
				}
			}
			check(t, b)
			c.wrong(b)
			if err := b.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
