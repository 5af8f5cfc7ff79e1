package scripts

import (
	"embed"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/avro"

	"github.com/freshet-dev/freshet/test/oracle"
)

//go:embed golden/*.txt event.avsc
var files embed.FS

// Schema is the text of the schema of all events of scripts, as reader and as writer, whose id is 1.
func Schema() []byte {
	text, err := files.ReadFile("event.avsc")
	if err != nil {
		panic(err) // it is embedded
	}
	return text
}

var encoder = avro.MustParse(string(Schema()))

// The kinds of steps of a script.
const (
	textStep = iota // comments, empty lines, the definition
	eventStep
	atStep
	rowsStep
)

// step is a part of a script.
type step struct {
	kind   int
	line   int
	text   string // as written; of an event without its arrow
	time   int64  // event, at
	record oracle.Record
	header []string // at, rows
	keys   []string // at: the entities asked for
}

// script is a parsed script.
type script struct {
	definition []byte
	steps      []step
}

func parse(text string) (*script, error) {
	s := &script{}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		st := step{line: i + 1, text: lines[i]}
		var err error
		switch word, rest, _ := strings.Cut(lines[i], " "); {
		case word == "definition":
			for ; i+1 < len(lines) && indented(lines[i+1]); i++ {
				s.definition = append(s.definition, strings.TrimPrefix(lines[i+1], "  ")+"\n"...)
				st.text += "\n" + lines[i+1]
			}
		case word == "event":
			err = s.event(&st, rest)
		case word == "at", word == "rows":
			st.kind = rowsStep
			if word == "at" {
				st.kind = atStep
				st.time, rest, err = cutTime(rest)
			}
			if err == nil && strings.TrimSpace(rest) != "" {
				err = fmt.Errorf("nothing may follow, here is %q", rest)
			}
			for n := 0; i+1 < len(lines) && indented(lines[i+1]); n++ {
				i++
				if cells := split(lines[i]); n == 0 {
					st.header = cells
				} else {
					st.keys = append(st.keys, cells[0])
				}
			}
			if st.header == nil {
				err = fmt.Errorf("%s needs a table", word)
			}
		case word != "" && word[0] != '#':
			err = fmt.Errorf("%q is not event, at, rows or a comment", word)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", st.line, err)
		}
		s.steps = append(s.steps, st)
	}
	if s.definition == nil {
		return nil, fmt.Errorf("there is no definition")
	}
	return s, nil
}

func indented(line string) bool { return strings.HasPrefix(line, "  ") }

func split(line string) []string {
	cells := strings.Split(line, "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

var layouts = []string{"2006-01-02 15:04:05.000", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// cutTime reads the time that a text begins with.
func cutTime(text string) (ms int64, rest string, err error) {
	for _, layout := range layouts {
		if len(text) < len(layout) || len(text) > len(layout) && text[len(layout)] != ' ' {
			continue
		}
		if t, err := time.Parse(layout, text[:len(layout)]); err == nil {
			return t.UnixMilli(), text[len(layout):], nil
		}
	}
	return 0, "", fmt.Errorf("%.23q does not begin with a time such as 2026-01-31 10:00", text)
}

// timeText is the shortest text of a time that cutTime reads.
func timeText(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	layout := layouts[0]
	for _, shorter := range layouts[1:] {
		if at, err := time.Parse(shorter, t.Format(shorter)); err == nil && at.Equal(t) {
			layout = shorter
		}
	}
	return t.Format(layout)
}

// event reads an event line.
func (s *script) event(st *step, rest string) (err error) {
	before, _, _ := strings.Cut(st.text, "->")
	st.kind, st.text = eventStep, strings.TrimRight(before, " ")
	rest, _, _ = strings.Cut(rest, "->")
	if st.time, rest, err = cutTime(rest); err != nil {
		return err
	}
	published := st.time
	fields := map[string]any{"time": st.time, "id": fmt.Sprintf("event of line %d", st.line)}
	for _, f := range encoder.Root().Fields {
		if f.HasDefault {
			fields[f.Name] = nil
		}
	}
	for _, pair := range strings.Fields(rest) {
		name, text, _ := strings.Cut(pair, "=")
		if name == "published" {
			text = strings.Replace(text, "_", " ", 1)
			if published, _, err = cutTime(text); err != nil {
				return err
			}
			continue
		}
		if fields[name], err = fieldValue(name, text); err != nil {
			return err
		}
	}
	value, err := encoder.AppendEncode([]byte{0, 0, 0, 0, 1}, fields)
	if err != nil {
		return err
	}
	user, _ := fields["user"].(string)
	st.record = oracle.Record{Timestamp: published, Key: []byte(user), Value: value, Partitions: 1}
	st.record.Offset = int64(len(slices.DeleteFunc(slices.Clone(s.steps), func(o step) bool { return o.kind != eventStep })))
	return nil
}

// fieldValue reads a field of an event.
func fieldValue(name, text string) (any, error) {
	switch name {
	case "id", "user", "category", "status":
		return text, nil
	case "amount":
		return strconv.ParseFloat(text, 64)
	case "quantity":
		return strconv.ParseInt(text, 10, 64)
	case "price":
		if r, ok := new(big.Rat).SetString(text); ok {
			return r, nil
		}
		return nil, fmt.Errorf("the price %q is not a number", text)
	}
	return nil, fmt.Errorf("events have no field %q", name)
}
