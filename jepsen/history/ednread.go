package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// UnmarshalEDN reads one value into what v points to. Unknown keys are skipped, so that a
// newer run can be read.
func UnmarshalEDN(data []byte, v any) error {
	x, err := ParseEDN(data)
	if err != nil {
		return err
	}
	return fill(reflect.ValueOf(v).Elem(), x)
}

// ParseEDN reads one value as Go's nearest: nil, bool, int64, uint64 (only above int64),
// float64, string, Keyword, []any (vector, list, set) and map[any]any.
func ParseEDN(data []byte) (any, error) {
	p := parser{s: data}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(p.s) {
		return nil, p.errorf("more than one value")
	}
	return v, nil
}

// maxDepth bounds nesting, so that a damaged file cannot exhaust the stack.
const maxDepth = 200

type parser struct {
	s     []byte
	at    int
	depth int
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("edn: byte %d: "+format, append([]any{p.at}, args...)...)
}

// skip passes white space, commas and comments.
func (p *parser) skip() {
	for p.at < len(p.s) {
		switch c := p.s[p.at]; {
		case c == ' ' || c == ',' || c == '\t' || c == '\n' || c == '\r':
			p.at++
		case c == ';':
			for p.at < len(p.s) && p.s[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

func (p *parser) value() (any, error) {
	if p.skip(); p.at >= len(p.s) {
		return nil, p.errorf("a value is missing")
	}
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf("nested too deep")
	}
	defer func() { p.depth-- }()
	switch c := p.s[p.at]; c {
	case '{':
		p.at++
		return p.mapping()
	case '[':
		p.at++
		return p.list(']')
	case '(':
		p.at++
		return p.list(')')
	case '"':
		p.at++
		return p.text()
	case '#':
		return p.dispatch()
	}
	return p.atom()
}

// dispatch reads sets, discards and tagged values (of which the tag is dropped).
func (p *parser) dispatch() (any, error) {
	p.at++
	switch {
	case p.at < len(p.s) && p.s[p.at] == '{':
		p.at++
		return p.list('}')
	case p.at < len(p.s) && p.s[p.at] == '_':
		p.at++
		if _, err := p.value(); err != nil {
			return nil, err
		}
		return p.value()
	}
	if p.word() == "" {
		return nil, p.errorf("a tag is missing")
	}
	return p.value()
}

func (p *parser) list(end byte) (any, error) {
	list := []any{}
	for {
		if p.skip(); p.at < len(p.s) && p.s[p.at] == end {
			p.at++
			return list, nil
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (p *parser) mapping() (any, error) {
	m := map[any]any{}
	for {
		if p.skip(); p.at < len(p.s) && p.s[p.at] == '}' {
			p.at++
			return m, nil
		}
		k, err := p.value()
		if err != nil {
			return nil, err
		}
		if k != nil && !reflect.TypeOf(k).Comparable() {
			k = string(MarshalEDN(k))
		}
		if m[k], err = p.value(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) text() (any, error) {
	var b []byte
	for p.at < len(p.s) {
		c := p.s[p.at]
		p.at++
		switch c {
		case '"':
			return string(b), nil
		case '\\':
			if p.at >= len(p.s) {
				return nil, p.errorf("a string does not end")
			}
			e := p.s[p.at]
			p.at++
			switch e {
			case 'n':
				b = append(b, '\n')
			case 'r':
				b = append(b, '\r')
			case 't':
				b = append(b, '\t')
			case '"', '\\':
				b = append(b, e)
			case 'u':
				if p.at+4 > len(p.s) {
					return nil, p.errorf("a string does not end")
				}
				r, err := strconv.ParseUint(string(p.s[p.at:p.at+4]), 16, 16)
				if err != nil {
					return nil, p.errorf("escape \\u%s", p.s[p.at:p.at+4])
				}
				p.at += 4
				b = utf8.AppendRune(b, rune(r))
			default:
				return nil, p.errorf("escape \\%c", e)
			}
		default:
			b = append(b, c)
		}
	}
	return nil, p.errorf("a string does not end")
}

// word takes everything up to a delimiter.
func (p *parser) word() string {
	from := p.at
	for p.at < len(p.s) && strings.IndexByte(" ,\t\r\n;\"{}[]()", p.s[p.at]) < 0 {
		p.at++
	}
	return string(p.s[from:p.at])
}

func (p *parser) atom() (any, error) {
	w := p.word()
	switch {
	case w == "":
		return nil, p.errorf("unexpected %q", p.s[p.at])
	case w == "nil":
		return nil, nil
	case w == "true", w == "false":
		return w == "true", nil
	case w[0] == ':' && len(w) > 1:
		return Keyword(w[1:]), nil
	}
	digits := strings.TrimSuffix(w, "N")
	if i, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(digits, 10, 64); err == nil {
		return u, nil
	}
	if f, err := strconv.ParseFloat(strings.TrimSuffix(w, "M"), 64); err == nil && !math.IsNaN(f) {
		return f, nil
	}
	return nil, p.errorf("%.40q is no value", w)
}

// fill sets v from a parsed EDN or JSON value.
func fill(v reflect.Value, x any) error {
	if x == nil {
		v.SetZero()
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return fill(v.Elem(), x)
	case reflect.Interface:
		v.Set(reflect.ValueOf(x))
		return nil
	case reflect.Struct:
		return fillStruct(v, x)
	case reflect.Slice:
		list, ok := x.([]any)
		if !ok {
			return mismatch(v, x)
		}
		s := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i := range list {
			if err := fill(s.Index(i), list[i]); err != nil {
				return err
			}
		}
		v.Set(s)
		return nil
	case reflect.Map:
		return fillMap(v, x)
	case reflect.Bool:
		b, ok := x.(bool)
		if !ok {
			return mismatch(v, x)
		}
		v.SetBool(b)
		return nil
	case reflect.String:
		switch s := x.(type) {
		case string:
			v.SetString(s)
			return nil
		case Keyword:
			v.SetString(string(s))
			return nil
		}
		return mismatch(v, x)
	}
	return fillNumber(v, x)
}

// fillMap takes keywords and strings alike as the keys of a map by strings.
func fillMap(v reflect.Value, x any) error {
	m, ok := x.(map[any]any)
	if !ok {
		return mismatch(v, x)
	}
	out := reflect.MakeMapWithSize(v.Type(), len(m))
	for k, e := range m {
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if err := errors.Join(fill(key, k), fill(val, e)); err != nil {
			return err
		}
		out.SetMapIndex(key, val)
	}
	v.Set(out)
	return nil
}

func fillNumber(v reflect.Value, x any) error {
	if n, ok := x.(json.Number); ok {
		x = string(n)
	}
	if s, ok := x.(string); ok { // 64-bit numbers are strings in the API's JSON
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			x = i
		} else if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			x = u
		} else if f, err := strconv.ParseFloat(s, 64); err == nil {
			x = f
		}
	}
	if k, ok := x.(Keyword); ok && v.Type() == reflect.TypeFor[Process]() {
		for p, name := range processNames {
			if name == string(k) {
				v.SetInt(int64(p))
				return nil
			}
		}
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if i, ok := x.(int64); ok && !v.OverflowInt(i) {
			v.SetInt(i)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		switch n := x.(type) {
		case int64:
			if n >= 0 && !v.OverflowUint(uint64(n)) {
				v.SetUint(uint64(n))
				return nil
			}
		case uint64:
			if !v.OverflowUint(n) {
				v.SetUint(n)
				return nil
			}
		}
	case reflect.Float32, reflect.Float64:
		switch n := x.(type) {
		case int64:
			v.SetFloat(float64(n))
			return nil
		case float64:
			v.SetFloat(n)
			return nil
		}
	}
	return mismatch(v, x)
}

func mismatch(v reflect.Value, x any) error {
	return fmt.Errorf("edn: %.60v (%T) does not fit %s", x, x, v.Type())
}

func fillStruct(v reflect.Value, x any) error {
	get, ok := lookup(x)
	if !ok {
		return mismatch(v, x)
	}
	op := v.Type() == reflect.TypeFor[Op]()
	if op { // F decides what Value is
		if f, ok := get("f"); ok {
			if err := fill(v.FieldByName("F"), f); err != nil {
				return err
			}
		}
	}
	for _, f := range fieldsOf(v.Type()) {
		e, ok := get(f.name)
		if !ok {
			continue
		}
		to := v.Field(f.at)
		if op && f.name == "value" && e != nil {
			if typed := valueOf(v.Addr().Interface().(*Op).F); typed != nil {
				if err := fill(reflect.ValueOf(typed).Elem(), e); err != nil {
					return fmt.Errorf("value: %w", err)
				}
				to.Set(reflect.ValueOf(typed))
				continue
			}
		}
		if err := fill(to, e); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// lookup finds a field by its tag in an EDN map (keyword) or a JSON object (snake_case).
func lookup(x any) (func(name string) (any, bool), bool) {
	switch m := x.(type) {
	case map[any]any:
		return func(name string) (any, bool) { v, ok := m[Keyword(name)]; return v, ok }, true
	case map[string]any:
		return func(name string) (any, bool) { v, ok := m[strings.ReplaceAll(name, "-", "_")]; return v, ok }, true
	}
	return nil, false
}

// sortedBy gives the order of the keys.
func sortedBy(keys []string) []int {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return keys[order[a]] < keys[order[b]] })
	return slices.Clip(order)
}
