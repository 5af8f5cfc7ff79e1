// Package show writes values, counts and times for people, and values for programs.
package show

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/sink"
)

// Null is how a null value is written.
const Null = "null"

// shownFloats is how many elements of an embedding a table shows.
const shownFloats = 4

// Text writes a value for a table. A value whose type is not known has the kind Bytes and no type: see Untyped.
func Text(v schemas.Value, t schemas.Type) string {
	switch v.Kind {
	case schemas.Null:
		return Null
	case schemas.Time:
		return Instant(v.Int64())
	case schemas.Floats:
		fs := floats(v.Bytes)
		parts := make([]string, 0, shownFloats)
		for _, f := range fs[:min(len(fs), shownFloats)] {
			parts = append(parts, strconv.FormatFloat(float64(f), 'g', 4, 32))
		}
		if len(fs) > shownFloats {
			parts = append(parts, fmt.Sprintf("… %d in all", len(fs)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case schemas.String:
		return Printable(string(v.Bytes))
	}
	return string(sink.AppendText(nil, v, t))
}

// Untyped writes the stored text of a value whose type is not known: as it is, or in base64 where it is no text.
func Untyped(text string) string {
	if utf8.ValidString(text) && Printable(text) == text {
		return text
	}
	return "base64:" + base64.StdEncoding.EncodeToString([]byte(text))
}

// JSON writes a value for programs: numbers as numbers (decimals with all their digits), times as RFC 3339, embeddings as arrays, bytes in hexadecimal.
func JSON(v schemas.Value, t schemas.Type) json.RawMessage {
	switch v.Kind {
	case schemas.Null:
		return json.RawMessage("null")
	case schemas.Bool, schemas.Int, schemas.Double, schemas.Decimal:
		return sink.AppendText(nil, v, t)
	case schemas.Time:
		return quoted(Instant(v.Int64()))
	case schemas.Bytes:
		return quoted(hex.EncodeToString(v.Bytes))
	case schemas.Floats:
		b := []byte{'['}
		for i, f := range floats(v.Bytes) {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
		}
		return append(b, ']')
	}
	return quoted(string(sink.AppendText(nil, v, t)))
}

func quoted(text string) json.RawMessage {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	return b
}

func floats(b []byte) []float32 {
	fs := make([]float32, len(b)/4)
	for i := range fs {
		fs[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return fs
}

// Printable returns text as it is, or quoted where a terminal would take part of it for more than text.
func Printable(text string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}

// Instant writes ms since the epoch as RFC 3339, in UTC, to the millisecond.
func Instant(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// Count writes a whole number with its thousands apart.
func Count(n int64) string {
	text := strconv.FormatInt(n, 10)
	digits := strings.TrimPrefix(text, "-")
	sign := text[:len(text)-len(digits)]
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, parts...), ",")
}

// Duration writes a duration in its two largest units, or in one below a minute.
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-d)
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", math.Floor(d.Seconds()*10)/10)
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d m", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// Plural is "1 row" or "2 rows".
func Plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}
