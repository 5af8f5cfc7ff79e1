package produce

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// The formats of a file.
const (
	CSV       = "csv" // with a header
	JSONLines = "jsonl"
)

const maxLineBytes = 1 << 20

// rowReader reads the rows of a file as fields by name. A *rowError concerns one row, and the next can be read; io.EOF is the end.
type rowReader interface {
	next() (map[string]any, error) // valid until the next call
	line() int                     // of the row read last, from 1
	read() int64                   // bytes of the input, compressed, that were taken so far
}

// rowError is what is wrong with one row.
type rowError struct{ err error }

func (e *rowError) Error() string { return e.err.Error() }
func (e *rowError) Unwrap() error { return e.err }

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// open returns the rows of in. known are the fields of the schema; what has another name and is not mapped is left out.
func open(in Input, known map[string]bool) (rowReader, error) {
	count := &counter{r: in.Reader}
	buffered := bufio.NewReaderSize(count, 64<<10)
	var text io.Reader = buffered
	name := strings.ToLower(in.Name)
	magic, _ := buffered.Peek(2) // an error comes again with the first row
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", in.Name, err)
		}
		text, name = z, strings.TrimSuffix(name, ".gz")
	}
	format := in.Format
	if format == "" {
		switch {
		case strings.HasSuffix(name, ".csv"):
			format = CSV
		case strings.HasSuffix(name, ".jsonl"), strings.HasSuffix(name, ".ndjson"), strings.HasSuffix(name, ".json"):
			format = JSONLines
		}
	}
	switch format {
	case CSV:
		return newCSV(in, text, count, known)
	case JSONLines:
		s := bufio.NewScanner(text)
		s.Buffer(make([]byte, 64<<10), maxLineBytes)
		fields := map[string]string{} // key → field
		for field, key := range in.Map {
			fields[key] = field
		}
		return &jsonRows{in: s, count: count, fields: fields}, nil
	}
	return nil, fmt.Errorf("%s: cannot tell whether it is CSV or JSON lines; say --format csv or --format jsonl", in.Name)
}

type csvRows struct {
	in     *csv.Reader
	count  *counter
	fields []string // by column; "": left out
	row    map[string]any
	at     int
}

func newCSV(in Input, text io.Reader, count *counter, known map[string]bool) (*csvRows, error) {
	c := &csvRows{in: csv.NewReader(text), count: count, row: map[string]any{}}
	c.in.ReuseRecord = true
	header, err := c.in.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header of %s: %w", in.Name, err)
	}
	names := slices.Clone(header)
	names[0] = strings.TrimPrefix(names[0], "\ufeff") // a mark of Excel's
	c.fields = make([]string, len(names))
	for i, name := range names {
		if j := slices.Index(names, name); j < i {
			return nil, fmt.Errorf("%s:1: two columns are called %q", in.Name, name)
		}
		if _, mapped := in.Map[name]; known[name] && !mapped {
			c.fields[i] = name
		}
	}
	more := map[string][]int{}
	for _, field := range slices.Sorted(maps.Keys(in.Map)) {
		i := slices.Index(names, in.Map[field])
		if i < 0 {
			return nil, fmt.Errorf("%s:1: no column %q for --map %s=%s; there are %s", in.Name, in.Map[field], field, in.Map[field], strings.Join(names, ", "))
		}
		more[field] = append(more[field], i)
		if c.fields[i] != "" && c.fields[i] != field {
			return nil, fmt.Errorf("%s:1: column %q is both %s and %s", in.Name, names[i], c.fields[i], field)
		}
		c.fields[i] = field
	}
	return c, nil
}

func (c *csvRows) next() (map[string]any, error) {
	record, err := c.in.Read()
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		c.at = parse.Line
		if errors.Is(err, csv.ErrFieldCount) {
			return nil, &rowError{fmt.Errorf("%d cells, the header has %d columns", len(record), len(c.fields))}
		}
		return nil, &rowError{parse.Err}
	}
	if err != nil {
		return nil, err
	}
	c.at, _ = c.in.FieldPos(0)
	clear(c.row)
	for i, field := range c.fields {
		if field != "" && record[i] != "" { // an empty cell is a field left out: it takes its default, or null
			c.row[field] = record[i]
		}
	}
	return c.row, nil
}

func (c *csvRows) line() int   { return c.at }
func (c *csvRows) read() int64 { return c.count.n }

type jsonRows struct {
	in     *bufio.Scanner
	count  *counter
	fields map[string]string
	at     int
}

func (j *jsonRows) next() (map[string]any, error) {
	for j.in.Scan() {
		j.at++
		line := bytes.TrimSpace(j.in.Bytes())
		if len(line) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber() // or a long would lose its last digits
		var row map[string]any
		if err := d.Decode(&row); err != nil {
			return nil, &rowError{fmt.Errorf("not a JSON object: %w", err)}
		}
		if _, err := d.Token(); row == nil || !errors.Is(err, io.EOF) {
			return nil, &rowError{errors.New("not one JSON object; write one a line")}
		}
		for key, field := range j.fields {
			if v, ok := row[key]; ok && key != field {
				delete(row, key)
				row[field] = v
			}
		}
		return row, nil
	}
	if err := j.in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d is longer than %d bytes", j.at+1, maxLineBytes)
		}
		return nil, err
	}
	return nil, io.EOF
}

func (j *jsonRows) line() int   { return j.at }
func (j *jsonRows) read() int64 { return j.count.n }
