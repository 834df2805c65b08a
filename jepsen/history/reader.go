package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
)

// maxLine bounds one line: an entry of 512 KiB with its results, several times over.
const maxLine = 16 << 20

// Read reads a history. A last line without its newline is what a killed harness leaves,
// and is dropped; any other damage is an error that names the line.
func Read(r io.Reader) ([]Op, error) {
	var ops []Op
	err := eachLine(r, func(line []byte) error {
		var op Op
		if err := UnmarshalEDN(line, &op); err != nil {
			return err
		}
		ops = append(ops, op)
		return nil
	})
	return ops, err
}

// ReadAudit reads an audit in its EDN form.
func ReadAudit(r io.Reader, node string) (*Audit, error) {
	a := &Audit{Node: node}
	err := eachLine(r, func(line []byte) error {
		var e Entry
		if err := UnmarshalEDN(line, &e); err != nil {
			return err
		}
		a.Entries = append(a.Entries, e)
		return nil
	})
	return a, err
}

// ReadAuditJSON reads an audit as "seatkeeper debug log" prints it.
func ReadAuditJSON(r io.Reader, node string) (*Audit, error) {
	a := &Audit{Node: node}
	err := eachLine(r, func(line []byte) error {
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var x map[string]any
		if err := d.Decode(&x); err != nil {
			return err
		}
		var e Entry
		if err := fill(reflect.ValueOf(&e).Elem(), x); err != nil {
			return err
		}
		a.Entries = append(a.Entries, e)
		return nil
	})
	return a, err
}

func eachLine(r io.Reader, take func(line []byte) error) error {
	b := bufio.NewReaderSize(r, 1<<16)
	var long []byte
	for n := 1; ; n++ {
		long = long[:0]
		for {
			part, err := b.ReadSlice('\n')
			long = append(long, part...)
			if err == nil {
				break
			}
			if err == io.EOF {
				return nil // nothing, or a line cut short
			}
			if err != bufio.ErrBufferFull {
				return err
			}
			if len(long) > maxLine {
				return fmt.Errorf("line %d: longer than %d bytes", n, maxLine)
			}
		}
		if len(bytes.TrimSpace(long)) == 0 {
			continue
		}
		if err := take(long); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}
