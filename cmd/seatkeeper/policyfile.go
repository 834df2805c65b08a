package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/seatkeeper/seatkeeper/lease"
)

// maxPolicyInput bounds a policy file: some times what the ledger takes.
const maxPolicyInput = 2 << 20

// policyFile is a policy as people write it: strict YAML, one list for each kind of rule.
// Where several rules of one kind that is a setting fit a request, one that names the
// feature counts before one that does not, and one for somebody before one for everybody.
type policyFile struct {
	Tenant         string        `yaml:"tenant,omitempty"`
	IgnoreCase     bool          `yaml:"ignore_case,omitempty"`
	Groups         []policyGroup `yaml:"groups,omitempty"`
	HostGroups     []policyGroup `yaml:"host_groups,omitempty"`
	Include        []policyRule  `yaml:"include,omitempty"`
	Exclude        []policyRule  `yaml:"exclude,omitempty"`
	Reserve        []policyRule  `yaml:"reserve,omitempty"`
	Max            []policyRule  `yaml:"max,omitempty"`
	SoftLimit      []policyRule  `yaml:"soft_limit,omitempty"`
	MaxOverdraft   []policyRule  `yaml:"max_overdraft,omitempty"`
	Profile        []policyRule  `yaml:"profile,omitempty"`
	Linger         []policyRule  `yaml:"linger,omitempty"`
	MinCheckout    []policyRule  `yaml:"min_checkout,omitempty"`
	IdleTimeout    []policyRule  `yaml:"idle_timeout,omitempty"`
	MinKill        []policyRule  `yaml:"min_kill,omitempty"`
	IncludeBorrow  []policyRule  `yaml:"include_borrow,omitempty"`
	ExcludeBorrow  []policyRule  `yaml:"exclude_borrow,omitempty"`
	MaxBorrowHours []policyRule  `yaml:"max_borrow_hours,omitempty"`
	BorrowLowWater []policyRule  `yaml:"borrow_low_water,omitempty"`
}

type policyGroup struct {
	Name     string   `yaml:"name"`
	Members  []string `yaml:"members,flow"`
	Priority int      `yaml:"priority,omitempty"`
}

// policyRule has the keys of all kinds of rules; each kind takes some of them.
type policyRule struct {
	Feature   string `yaml:"feature,omitempty"`
	User      string `yaml:"user,omitempty"`
	Host      string `yaml:"host,omitempty"`
	Display   string `yaml:"display,omitempty"`
	Internet  string `yaml:"internet,omitempty"`
	Project   string `yaml:"project,omitempty"`
	Group     string `yaml:"group,omitempty"`
	HostGroup string `yaml:"host_group,omitempty"`
	Seats     *int   `yaml:"seats,omitempty"`
	Hours     *int   `yaml:"hours,omitempty"`
	Time      string `yaml:"time,omitempty"`
	Profile   string `yaml:"profile,omitempty"`
	Lifespan  string `yaml:"lifespan,omitempty"`
	Grace     string `yaml:"grace,omitempty"`
}

// subjects gives the places of the names that a rule can be about.
func (r *policyRule) subjects() []*string {
	return []*string{nil, &r.User, &r.Host, &r.Display, &r.Internet, &r.Project, &r.Group, &r.HostGroup}
}

// sections gives the list of each kind of rule.
func (f *policyFile) section(k lease.RuleKind) *[]policyRule {
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		if key, _, _ := bytes.Cut([]byte(v.Type().Field(i).Tag.Get("yaml")), []byte(",")); string(key) == k.String() {
			return v.Field(i).Addr().Interface().(*[]policyRule)
		}
	}
	return nil
}

// kinds lists the kinds of rules.
func kinds() (list []lease.RuleKind) {
	for k := lease.RuleKind(1); ; k++ {
		if _, known := lease.RuleKindOf(k.String()); !known {
			return list
		}
		list = append(list, k)
	}
}

// policySource is a policy and where each of its parts stands in a file.
type policySource struct {
	file   string
	policy lease.Policy
	// ofRule and ofGroup are the places of rules and groups.
	ofRule, ofGroup []place
}

// place is where something stands, and how it was written.
type place struct {
	line, column int
	text         string
	token        *token.Token
}

// readPolicyFile decodes a policy file. Unknown keys and wrong values are refused with
// line, column and caret.
func readPolicyFile(name string, data []byte) (*policySource, error) {
	fail := func(p problem) error { return &configError{file: name, problems: []problem{p}} }
	if len(data) > maxPolicyInput {
		return nil, fail(problem{message: fmt.Sprintf("is larger than %d bytes: this is no policy", maxPolicyInput)})
	}
	var doc policyFile
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fail(yamlProblem(err, reflect.TypeFor[policyFile]()))
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, fail(yamlProblem(err, reflect.TypeFor[policyFile]()))
	}
	if len(tree.Docs) > 1 {
		return nil, fail(problem{message: "holds more than one YAML document: keep one"})
	}
	places := map[string]*token.Token{}
	for _, d := range tree.Docs {
		noteTokens("", d.Body, places)
	}
	s := &policySource{file: name, policy: lease.Policy{Tenant: doc.Tenant, FoldCase: doc.IgnoreCase}}
	at := func(path string) place {
		tk := places[path]
		if tk == nil {
			return place{}
		}
		return place{line: tk.Position.Line, column: tk.Position.Column, token: tk}
	}
	for _, list := range []struct {
		key    string
		groups []policyGroup
	}{{"groups", doc.Groups}, {"host_groups", doc.HostGroups}} {
		for i, g := range list.groups {
			s.policy.Groups = append(s.policy.Groups, lease.PolicyGroup{Name: g.Name, Hosts: list.key == "host_groups", Members: g.Members, Priority: g.Priority})
			s.ofGroup = append(s.ofGroup, at(fmt.Sprintf("%s[%d]", list.key, i)))
		}
	}
	for _, k := range kinds() {
		for i := range *doc.section(k) {
			path := fmt.Sprintf("%s[%d]", k, i)
			r, key, err := (*doc.section(k))[i].rule(k)
			if err != nil {
				where := at(path + "." + key)
				if key == "" || where.token == nil {
					where = at(path)
				}
				return nil, fail(where.problem(err.Error()))
			}
			s.policy.Rules = append(s.policy.Rules, r)
			s.ofRule = append(s.ofRule, at(path))
		}
	}
	return s, nil
}

// problem is what is wrong at a place.
func (p place) problem(message string) problem {
	x := problem{message: message, row: p.line, col: p.column}
	if p.token != nil {
		x.excerpt = excerpt(p.token)
	}
	return x
}

// noteTokens remembers where each value of a YAML tree stands, by its path.
func noteTokens(path string, node ast.Node, places map[string]*token.Token) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			noteTokens(path, v, places)
		}
		if len(n.Values) > 0 && path != "" {
			places[path] = n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		key := n.Key.GetToken().Value
		if path != "" {
			if places[path] == nil {
				places[path] = n.Key.GetToken()
			}
			key = path + "." + key
		}
		places[key] = n.Key.GetToken()
		noteTokens(key, n.Value, places)
	case *ast.SequenceNode:
		for i, v := range n.Values {
			noteTokens(fmt.Sprintf("%s[%d]", path, i), v, places)
		}
	}
}

// rule makes a rule of the kind; key is what is wrong.
func (r *policyRule) rule(k lease.RuleKind) (x lease.Rule, key string, err error) {
	x = lease.Rule{Kind: k, Feature: r.Feature}
	for t, name := range r.subjects() {
		if name == nil || *name == "" {
			continue
		}
		if x.Who.Type != lease.Everybody {
			return x, lease.SubjectType(t).String(), fmt.Errorf("%s: name one of user, host, display, internet, project, group, host_group, not several", k)
		}
		x.Who = lease.Subject{Type: lease.SubjectType(t), Name: *name}
	}
	amount, other, word := r.Seats, r.Hours, "seats"
	if k == lease.RuleMaxBorrow {
		amount, other, word = r.Hours, r.Seats, "hours"
	}
	switch counted := countsSeats(k); {
	case other != nil || amount != nil && !counted:
		return x, "seats", fmt.Errorf("%s takes no such number", k)
	case counted && amount == nil:
		return x, "", fmt.Errorf("%s: %s is missing", k, word)
	case counted:
		x.Seats = *amount
	}
	if k == lease.RuleProfile {
		return r.profileRule(x)
	}
	if r.Profile+r.Lifespan+r.Grace != "" {
		return x, "lifespan", fmt.Errorf("%s takes no profile, lifespan or grace", k)
	}
	switch timed := takesTime(k); {
	case r.Time != "" && !timed:
		return x, "time", fmt.Errorf("%s takes no time", k)
	case timed && r.Time == "":
		return x, "", fmt.Errorf("%s: time is missing, for example time: 10m", k)
	case timed:
		if x.Time, err = parseSpan(r.Time); err != nil {
			return x, "time", fmt.Errorf("%s: %w", k, err)
		}
	}
	return x, "", nil
}

func countsSeats(k lease.RuleKind) bool {
	switch k {
	case lease.RuleMax, lease.RuleReserve, lease.RuleMaxOverdraft, lease.RuleSoftLimit, lease.RuleMaxBorrow, lease.RuleBorrowLow:
		return true
	}
	return false
}

func takesTime(k lease.RuleKind) bool {
	switch k {
	case lease.RuleLinger, lease.RuleMinCheckout, lease.RuleIdleTimeout, lease.RuleMinKill:
		return true
	}
	return false
}

func (r *policyRule) profileRule(x lease.Rule) (lease.Rule, string, error) {
	var err error
	switch {
	case r.Time != "":
		return x, "time", fmt.Errorf("profile takes no time: say lifespan and grace, or profile: lan")
	case r.Profile != "" && r.Lifespan+r.Grace != "":
		return x, "profile", fmt.Errorf("profile: say either a name or lifespan and grace")
	case r.Profile != "":
		named, known := lease.Profiles[r.Profile]
		if !known {
			return x, "profile", fmt.Errorf("profile %q: want default, lan, wan or ci", r.Profile)
		}
		x.Time, x.Grace = named.Lifespan, named.Grace
		return x, "", nil
	case r.Lifespan == "" || r.Grace == "":
		return x, "", fmt.Errorf("profile: say lifespan and grace, or profile: lan")
	}
	if x.Time, err = parseSpan(r.Lifespan); err != nil {
		return x, "lifespan", err
	}
	if x.Grace, err = parseSpan(r.Grace); err != nil {
		return x, "grace", err
	}
	return x, "", nil
}

// parseSpan reads a time such as 90s, 10m or 1h30m.
func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("%q is no time: write 90s, 10m or 1h30m", s)
	}
	return d, nil
}

// spanText writes a time without the units that are zero: 10m, not 10m0s.
func spanText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// writePolicyFile writes a policy as readPolicyFile reads it.
func writePolicyFile(p lease.Policy) ([]byte, error) {
	doc := policyFile{Tenant: p.Tenant, IgnoreCase: p.FoldCase}
	for _, g := range p.Groups {
		x := policyGroup{Name: g.Name, Members: g.Members, Priority: g.Priority}
		if x.Members == nil {
			x.Members = []string{}
		}
		if g.Hosts {
			doc.HostGroups = append(doc.HostGroups, x)
		} else {
			doc.Groups = append(doc.Groups, x)
		}
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		list := doc.section(r.Kind)
		if list == nil {
			return nil, fmt.Errorf("a rule of kind %s is not known to this program: use a newer one", r.Kind)
		}
		x := policyRule{Feature: r.Feature}
		if names := x.subjects(); r.Who.Type != lease.Everybody && int(r.Who.Type) < len(names) {
			*names[r.Who.Type] = r.Who.Name
		}
		seats := r.Seats
		switch {
		case r.Kind == lease.RuleMaxBorrow:
			x.Hours = &seats
		case countsSeats(r.Kind):
			x.Seats = &seats
		case r.Kind == lease.RuleProfile:
			x.Lifespan, x.Grace = spanText(r.Time), spanText(r.Grace)
		case takesTime(r.Kind):
			x.Time = spanText(r.Time)
		}
		*list = append(*list, x)
	}
	return yaml.MarshalWithOptions(doc, yaml.IndentSequence(true))
}
