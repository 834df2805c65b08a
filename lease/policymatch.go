package lease

import (
	"net/netip"
	"slices"
	"strings"
)

// maxSubjects bounds the different subjects of a policy: every rule and group may bring one.
const maxSubjects = MaxPolicyRules + MaxPolicyGroups + 1

// subjects is a set of subjects of one policy: those that a principal is.
type subjects [(maxSubjects + 63) / 64]uint64

func (s *subjects) add(n uint16)      { s[n/64] |= 1 << (n % 64) }
func (s *subjects) has(n uint16) bool { return s[n/64]>>(n%64)&1 != 0 }

// everybody is the number of the subject that each principal is.
const everybody = 0

// matcher tells which subjects a principal is. Plain names are looked up; only names with
// wildcards and networks are gone through, of which there are at most MaxPolicyPatterns.
type matcher struct {
	fold   bool
	number map[Subject]uint16
	plain  [lastSubject + 1]map[string][]uint16 // by type of a plain subject, folded name
	globs  []globFor
	nets   []netFor
}

type globFor struct {
	of      SubjectType
	pattern string
	subject uint16
}

type netFor struct {
	network netip.Prefix
	subject uint16
}

// isPattern says whether a name must be compared with each request.
func isPattern(name string) bool { return strings.ContainsAny(name, "*?/") }

func newMatcher(p *Policy) *matcher {
	m := &matcher{fold: p.FoldCase, number: map[Subject]uint16{{}: everybody}}
	for _, g := range p.Groups {
		t, member := SubjectGroup, SubjectUser
		if g.Hosts {
			t, member = SubjectHostGroup, SubjectHost
		}
		n := m.numberOf(Subject{t, p.fold(g.Name)})
		for _, name := range g.Members {
			m.learn(member, p.fold(name), n)
		}
	}
	for i := range p.Rules {
		who := Subject{p.Rules[i].Who.Type, p.fold(p.Rules[i].Who.Name)}
		if _, known := m.number[who]; !known {
			m.learn(who.Type, who.Name, m.numberOf(who))
		}
	}
	return m
}

func (m *matcher) numberOf(s Subject) uint16 {
	n, known := m.number[s]
	if !known {
		n = uint16(len(m.number))
		m.number[s] = n
	}
	return n
}

// subjectOf gives the number of a rule's subject.
func (m *matcher) subjectOf(p *Policy, r *Rule) uint16 {
	return m.number[Subject{r.Who.Type, p.fold(r.Who.Name)}]
}

// learn makes a name of the type stand for a subject.
func (m *matcher) learn(t SubjectType, name string, subject uint16) {
	address := t == SubjectHost || t == SubjectInternet
	if network, err := netip.ParsePrefix(name); err == nil && address {
		m.nets = append(m.nets, netFor{network.Masked(), subject})
		return
	}
	if strings.ContainsAny(name, "*?") {
		m.globs = append(m.globs, globFor{t, name, subject})
		return
	}
	if a, err := netip.ParseAddr(name); err == nil && address {
		m.nets = append(m.nets, netFor{netip.PrefixFrom(a, a.BitLen()), subject})
	}
	if m.plain[t] == nil {
		m.plain[t] = map[string][]uint16{}
	}
	if list := m.plain[t][name]; !slices.Contains(list, subject) {
		m.plain[t][name] = append(list, subject)
	}
}

// of fills in which subjects the principal is.
func (m *matcher) of(who Principal) *subjects {
	var set subjects
	set.add(everybody)
	var text [lastSubject + 1]string
	text[SubjectUser], text[SubjectHost], text[SubjectDisplay] = who.User, who.Host, who.Display
	text[SubjectInternet], text[SubjectProject] = who.IP, who.Project
	for t := range text {
		if m.fold {
			text[t] = strings.ToLower(text[t])
		}
		for _, n := range m.plain[t][text[t]] {
			set.add(n)
		}
	}
	for i := range m.globs {
		g := &m.globs[i]
		if text[g.of] != "" && glob(g.pattern, text[g.of]) || g.of == SubjectHost && who.IP != "" && glob(g.pattern, who.IP) {
			set.add(g.subject)
		}
	}
	if len(m.nets) > 0 {
		if a, err := netip.ParseAddr(who.IP); err == nil {
			a = a.Unmap().WithZone("")
			for i := range m.nets {
				if m.nets[i].network.Contains(a) {
					set.add(m.nets[i].subject)
				}
			}
		}
	}
	return &set
}

// glob says whether the whole text has the pattern: * is any characters, ? is one. It
// takes at most len(pattern)·len(text) steps.
func glob(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p, t = p+1, t+1
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
