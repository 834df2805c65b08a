package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// jsonCodec reads and writes the JSON of the API: snake_case names, fields at zero
// shown too, 64-bit numbers as strings, unknown fields refused. Whatever
// Content-Type a request names, its body is JSON: curl --data says it is a form.
type jsonCodec struct{}

var (
	jsonOut = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}
	jsonIn  = protojson.UnmarshalOptions{}
)

// ContentType implements runtime.Marshaler.
func (jsonCodec) ContentType(any) string { return "application/json" }

// Marshal implements runtime.Marshaler. The text ends with a newline, for terminals,
// and has no blanks: protojson adds some at random.
func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		text, err := json.Marshal(v)
		return append(text, '\n'), err
	}
	text, err := jsonOut.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(len(text) + 1)
	if err := json.Compact(&out, text); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Unmarshal implements runtime.Marshaler; its errors are one clear line.
func (jsonCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("not a message: %T", v)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the body is empty: send a JSON object")
	}
	if err := jsonIn.Unmarshal(data, m); err != nil {
		return errors.New(plainJSONError(err))
	}
	return nil
}

// plainJSONError takes protojson's prefix (with its unbreakable blank) away.
func plainJSONError(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return "JSON: " + strings.TrimPrefix(text, "proto: ")
}

// NewDecoder implements runtime.Marshaler. The body has been read and bounded before.
func (c jsonCodec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return c.Unmarshal(data, v)
	})
}

// NewEncoder implements runtime.Marshaler.
func (c jsonCodec) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := c.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
}

// queryParser reads ?a=b into a request as strictly as a body is read: a parameter
// the request does not have is refused, not ignored. A bare ?stale means true.
type queryParser struct{ plain runtime.DefaultQueryParser }

// Parse implements runtime.QueryParameterParser.
func (q *queryParser) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	fields := m.ProtoReflect().Descriptor().Fields()
	for key, vs := range values {
		f := fields.ByTextName(key)
		if f == nil {
			return fmt.Errorf("unknown query parameter %q", key)
		}
		if f.Kind() == protoreflect.BoolKind && len(vs) == 1 && vs[0] == "" {
			values[key] = []string{"true"}
		}
	}
	return q.plain.Parse(m, values, filter)
}
