package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// formats are the values of -o.
var formats = []string{"table", "json", "yaml"}

func checkFormat(format string) error {
	for _, f := range formats {
		if format == f {
			return nil
		}
	}
	return usagef("output format %q: use -o %s", format, strings.Join(formats, "|"))
}

// apiJSON writes answers exactly as the API's JSON does.
var apiJSON = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}

// print writes v (an API message or a struct with json tags) in the chosen format;
// draw makes the table.
func (a *app) print(v any, draw func(*table)) error {
	format := "table"
	if a.cfg != nil {
		format = a.cfg.Client.Format
	}
	if format == "table" {
		t := newTable(a.stdout)
		draw(t)
		return t.flush()
	}
	data, err := marshalJSON(v)
	if err != nil {
		return err
	}
	if format == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = a.stdout.Write(data)
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = a.stdout.Write(out.Bytes())
	return err
}

func marshalJSON(v any) ([]byte, error) {
	if m, ok := v.(proto.Message); ok {
		return apiJSON.Marshal(m)
	}
	return json.Marshal(v)
}

// table is text in aligned columns, with a heading.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) *table {
	return &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

// text writes a line that is no row; what stands before it is aligned by itself.
func (t *table) text(format string, args ...any) {
	t.w.Flush()
	fmt.Fprintf(t.w, format+"\n", args...)
	t.w.Flush()
}

// row writes one row; an empty cell shows as a dash, so that columns can be cut.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		s := fmt.Sprint(c)
		if s == "" {
			s = "-"
		}
		fmt.Fprint(t.w, s)
	}
	fmt.Fprintln(t.w)
}

func (t *table) flush() error { return t.w.Flush() }

// ints joins numbers with commas.
func ints[T any](list []T) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = fmt.Sprint(v)
	}
	return strings.Join(s, ",")
}
