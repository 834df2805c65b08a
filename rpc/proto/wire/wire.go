// Package wire turns the API's messages into bytes and back, for nodes and for the SDK. Messages that
// many calls carry have generated code for it (github.com/planetscale/vtprotobuf), which writes in a
// quarter of the time of google.golang.org/protobuf and reads in half; all others go through that library.
package wire

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what Codec falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// name is that of gRPC's own codec: on the wire nothing tells one from the other.
const name = "proto"

// Fast is a message with generated code.
type Fast interface {
	SizeVT() int
	MarshalToSizedBufferVTStrict(buf []byte) (int, error)
	UnmarshalVT(data []byte) error
}

// Codec is gRPC's codec for protobuf.
type Codec struct {
	reads   func(Fast) bool
	library encoding.CodecV2
}

// NewCodec returns a codec, for grpc.ForceServerCodecV2 and grpc.ForceCodecV2. The generated code
// reads strings without a look whether they are UTF-8, so whoever reads what strangers wrote says by
// reads which messages are looked through afterwards, and the library reads the others; nil: all.
func NewCodec(reads func(Fast) bool) *Codec {
	return &Codec{reads: reads, library: encoding.GetCodecV2(name)}
}

// Name is "proto".
func (c *Codec) Name() string { return name }

// Marshal encodes a message. Its buffer comes from gRPC's pool when it is large enough for that.
func (c *Codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(Fast)
	if !ok {
		return c.library.Marshal(v)
	}
	size := m.SizeVT()
	if mem.IsBelowBufferPoolingThreshold(size) {
		buf := make([]byte, size)
		if _, err := m.MarshalToSizedBufferVTStrict(buf); err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(buf)}, nil
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	if _, err := m.MarshalToSizedBufferVTStrict((*buf)[:size]); err != nil {
		pool.Put(buf)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

// Unmarshal decodes into a message that nothing was read into before. Nothing of data is kept.
func (c *Codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(Fast)
	if !ok || c.reads != nil && !c.reads(m) {
		return c.library.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return m.UnmarshalVT(buf.ReadOnlyData())
}

// Size is how many bytes a message has on the wire.
func Size(m proto.Message) int {
	if f, ok := m.(Fast); ok {
		return f.SizeVT()
	}
	return proto.Size(m)
}
