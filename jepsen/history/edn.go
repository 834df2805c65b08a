package history

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// The part of EDN that a history needs: nil, booleans, integers, floats, strings,
// keywords, vectors, lists, sets and maps, comments and discards. Structs are written as
// maps of keywords by their edn tags. There is no library: the one that exists has no
// released version.

// Keyword is written as :name.
type Keyword string

// keywordTypes are the named strings that are written as keywords.
var keywordTypes = map[reflect.Type]bool{
	reflect.TypeFor[Keyword](): true,
	reflect.TypeFor[Type]():    true,
	reflect.TypeFor[F]():       true,
	reflect.TypeFor[Result]():  true,
}

// MarshalEDN writes a value on one line. It panics on channels, functions and the like,
// which no record has.
func MarshalEDN(v any) []byte { return appendEDN(nil, reflect.ValueOf(v)) }

// field is one struct field as its tag says.
type field struct {
	name string
	at   int
	omit bool
}

var fieldCache sync.Map // reflect.Type → []field

func fieldsOf(t reflect.Type) []field {
	if f, ok := fieldCache.Load(t); ok {
		return f.([]field)
	}
	var list []field
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("edn")
		if !ok || !t.Field(i).IsExported() {
			continue
		}
		name, opts, _ := strings.Cut(tag, ",")
		list = append(list, field{name, i, opts == "omitempty"})
	}
	fieldCache.Store(t, list)
	return list
}

func appendEDN(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Invalid:
		return append(b, "nil"...)
	case reflect.Pointer, reflect.Interface:
		return appendEDN(b, v.Elem())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if p, ok := v.Interface().(Process); ok && p < 0 {
			return append(append(b, ':'), processNames[p]...)
		}
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Float64, reflect.Float32:
		s := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return append(b, s...)
	case reflect.String:
		if s := v.String(); keywordTypes[v.Type()] {
			if isKeyword(s) {
				return append(append(b, ':'), s...)
			}
			return appendString(b, s)
		}
		return appendString(b, v.String())
	case reflect.Slice, reflect.Array:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ' ')
			}
			b = appendEDN(b, v.Index(i))
		}
		return append(b, ']')
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Struct:
		return appendStruct(b, v)
	}
	panic(fmt.Sprintf("edn: no form for %s", v.Type()))
}

var processNames = map[Process]string{Nemesis: "nemesis", Observer: "observer"}

func appendStruct(b []byte, v reflect.Value) []byte {
	b = append(b, '{')
	first := true
	for _, f := range fieldsOf(v.Type()) {
		x := v.Field(f.at)
		if f.omit && (x.IsZero() || x.Kind() == reflect.Slice && x.Len() == 0) {
			continue
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(append(append(b, ':'), f.name...), ' ')
		b = appendEDN(b, x)
	}
	return append(b, '}')
}

// appendMap writes a map by key, so that equal maps are equal lines. String keys that
// can be keywords become some.
func appendMap(b []byte, v reflect.Value) []byte {
	var keys, values []string
	for it := v.MapRange(); it.Next(); {
		k := it.Key()
		for k.Kind() == reflect.Interface {
			k = k.Elem()
		}
		if k.Kind() == reflect.String && isKeyword(k.String()) {
			keys = append(keys, ":"+k.String())
		} else {
			keys = append(keys, string(appendEDN(nil, k)))
		}
		values = append(values, string(appendEDN(nil, it.Value())))
	}
	order := sortedBy(keys)
	b = append(b, '{')
	for n, i := range order {
		if n > 0 {
			b = append(b, ", "...)
		}
		b = append(append(append(b, keys[i]...), ' '), values[i]...)
	}
	return append(b, '}')
}

// isKeyword says whether s can stand after a colon and be read back.
func isKeyword(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.?!*+/", c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// appendString escapes what EDN knows escapes for; all else is UTF-8 as it is.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			b = append(b, '\\', byte(r))
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if r < ' ' {
				b = fmt.Appendf(b, `\u%04x`, r)
				continue
			}
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
