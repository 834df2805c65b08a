package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/printer"
	"github.com/goccy/go-yaml/token"
)

// maxConfigBytes bounds a config file: more is some other file.
const maxConfigBytes = 1 << 20

// loadedConfig is a Config with the place each value came from.
type loadedConfig struct {
	Config
	file string
	// origin says where a value that is not a default came from, by key.
	origin map[string]string
	// places are the tokens of the file's values, by key.
	places map[string]*token.Token
}

// configError is returned when a config file or a setting is wrong.
type configError struct {
	file     string
	problems []problem
}

func (e *configError) Error() string { return e.problems[0].line(e.file) }

// loadConfig merges defaults, the file (none if empty), the environment and flags.
// It checks the form of the values; Validate judges what a server needs.
func loadConfig(file string, lookupEnv func(string) (string, bool), flags map[string]string) (*loadedConfig, error) {
	l := &loadedConfig{Config: defaultConfig(), file: file, origin: map[string]string{}, places: map[string]*token.Token{}}
	if file != "" {
		if err := l.readFile(); err != nil {
			return nil, err
		}
	}
	for _, f := range l.fields() {
		source, value := "", ""
		if f.secret {
			var err error
			if source, value, err = f.secretFile(lookupEnv); err != nil {
				return nil, err
			}
		}
		if v, ok := lookupEnv(f.env); ok && v != "" {
			source, value = "env "+f.env, v
		}
		if v, ok := flags[f.key]; ok {
			source, value = "flag", v
		}
		if source == "" {
			continue
		}
		if err := f.set(value); err != nil {
			return nil, &configError{problems: []problem{{key: f.key, message: fmt.Sprintf("%s (%s): %v", f.key, source, err)}}}
		}
		l.origin[f.key] = source
	}
	return l, nil
}

// check runs Validate and puts the place in the file to each problem.
func (l *loadedConfig) check() error {
	return l.refused(l.Validate())
}

// checkAgent is check for an agent, which needs nothing that a server does.
func (l *loadedConfig) checkAgent() error {
	var found []problem
	bad := func(key, format string, args ...any) {
		found = append(found, problem{key: key, message: key + ": " + fmt.Sprintf(format, args...)})
	}
	l.Agent.validate(bad)
	l.Log.validate(bad)
	return l.refused(found)
}

// refused is the error that problems are.
func (l *loadedConfig) refused(found []problem) error {
	if len(found) == 0 {
		return nil
	}
	for i := range found {
		p := &found[i]
		tk := l.places[p.key]
		if source := l.origin[p.key]; strings.HasPrefix(source, "env ") || source == "flag" {
			p.message += " (from " + source + ")"
			continue
		}
		if tk == nil {
			continue
		}
		p.row, p.col, p.excerpt = tk.Position.Line, tk.Position.Column, excerpt(tk)
	}
	return &configError{file: l.file, problems: found}
}

func (l *loadedConfig) readFile() error {
	fail := func(p problem) error { return &configError{file: l.file, problems: []problem{p}} }
	data, err := readLimited(l.file, maxConfigBytes)
	if err != nil {
		return fail(problem{message: fileMessage(err) + ": write one with seatkeeper config init"})
	}
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := dec.Decode(&l.Config); err != nil && !errors.Is(err, io.EOF) {
		return fail(yamlProblem(err, reflect.TypeFor[Config]()))
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return fail(yamlProblem(err, reflect.TypeFor[Config]()))
	}
	if len(tree.Docs) > 1 {
		return fail(problem{message: "holds more than one YAML document: keep one"})
	}
	for _, doc := range tree.Docs {
		l.notePlaces("", doc.Body)
	}
	return nil
}

// notePlaces remembers where each value stands.
func (l *loadedConfig) notePlaces(prefix string, node ast.Node) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			l.notePlaces(prefix, v)
		}
	case *ast.MappingValueNode:
		key := n.Key.GetToken().Value
		if prefix != "" {
			key = prefix + "." + key
		}
		l.places[key] = n.Key.GetToken()
		if _, null := n.Value.(*ast.NullNode); !null {
			l.places[key] = n.Value.GetToken()
		}
		l.origin[key] = fmt.Sprintf("%s:%d", l.file, n.Key.GetToken().Position.Line)
		l.notePlaces(key, n.Value)
	case *ast.SequenceNode:
		for i, v := range n.Values {
			l.places[fmt.Sprintf("%s[%d]", prefix, i)] = v.GetToken()
		}
	}
}

// yamlProblem puts a decoder's error into our words; of is what was to be decoded.
func yamlProblem(err error, of reflect.Type) problem {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		return problem{message: oneLine(err.Error())}
	}
	tk := ye.GetToken()
	p := problem{message: ye.GetMessage(), row: tk.Position.Line, col: tk.Position.Column, excerpt: excerpt(tk)}
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && wrong.DstType != nil {
		p.message = fmt.Sprintf("%q is not what stands here: want %s", tk.Value, kindText(wrong.DstType.Kind()))
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		p.message = fmt.Sprintf("unknown key %q", tk.Value)
		if near := nearestKey(tk.Value, of); near != "" {
			p.message += fmt.Sprintf(": did you mean %q?", near)
		}
	}
	return p
}

// kindText names what a key takes.
func kindText(k reflect.Kind) string {
	switch k {
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "keys with values"
	}
	return "a text"
}

// excerpt shows the lines around a token and a caret under it.
func excerpt(tk *token.Token) string {
	var pp printer.Printer
	return pp.PrintErrorToken(tk, false)
}

// field is one value of a Config.
type field struct {
	key, env string
	secret   bool
	value    reflect.Value
}

// fields lists the values of the config in the order of the file.
func (l *loadedConfig) fields() []field { return fieldsOf("", reflect.ValueOf(&l.Config).Elem()) }

func fieldsOf(prefix string, v reflect.Value) []field {
	var list []field
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key := prefix + sf.Tag.Get("yaml")
		if sf.Type.Kind() == reflect.Struct {
			list = append(list, fieldsOf(key+".", v.Field(i))...)
			continue
		}
		f := field{key: key, env: sf.Tag.Get("env"), secret: sf.Tag.Get("secret") != "", value: v.Field(i)}
		if f.env == "" {
			f.env = "SEATKEEPER_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		}
		list = append(list, f)
	}
	return list
}

// secretFile reads a secret from the file that its variable with _FILE names, as containers
// are given secrets: an environment is shown by too many tools. Lines are parts of a list.
func (f field) secretFile(lookupEnv func(string) (string, bool)) (source, value string, err error) {
	name, _ := lookupEnv(f.env + "_FILE")
	if name == "" {
		return "", "", nil
	}
	source = "env " + f.env + "_FILE"
	text, err := readLimited(name, maxConfigBytes)
	if err != nil {
		return "", "", &configError{problems: []problem{{key: f.key, message: fmt.Sprintf("%s (%s): %s: %s", f.key, source, name, fileMessage(err))}}}
	}
	value = strings.TrimSpace(string(text))
	if value == "" {
		return "", "", &configError{problems: []problem{{key: f.key, message: fmt.Sprintf("%s (%s): %s is empty", f.key, source, name)}}}
	}
	if f.value.Kind() == reflect.Slice {
		value = strings.Join(strings.Fields(value), ",")
	}
	return source, value, nil
}

// set reads a value as text, as variables and flags hold it.
func (f field) set(s string) error {
	switch f.value.Kind() {
	case reflect.String:
		f.value.SetString(s)
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is no whole number", s)
		}
		f.value.SetInt(int64(n))
	case reflect.Float64:
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", s)
		}
		f.value.SetFloat(x)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q: use true or false", s)
		}
		f.value.SetBool(b)
	case reflect.Slice:
		f.value.Set(reflect.ValueOf(splitList(s)))
	default:
		return fmt.Errorf("cannot be set from text")
	}
	return nil
}

// text is the value as shown; secrets only say that they are there.
func (f field) text() string {
	if f.secret && f.value.Len() > 0 {
		return "(set)"
	}
	if f.value.Kind() == reflect.Slice {
		return strings.Join(f.value.Interface().([]string), ",")
	}
	return fmt.Sprint(f.value.Interface())
}

func splitList(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// nearestKey finds the key most like a mistyped one, if any is close.
func nearestKey(typed string, of reflect.Type) string {
	best, bestDistance := "", 3
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if d := editDistance(typed, name); d < bestDistance {
				best, bestDistance = name, d
			}
			walk(t.Field(i).Type)
		}
	}
	walk(of)
	return best
}

// editDistance counts the letters to insert, drop or change (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// readLimited reads a file that must not be larger than limit bytes.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("is larger than %d bytes", limit)
	}
	return data, nil
}

// fileMessage is a file error without the path, which stands in front already.
func fileMessage(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
