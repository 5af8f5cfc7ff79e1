package produce

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// TimeFormats are the names of common formats of time, beside Go's layouts (such as "02.01.2006 15:04").
var TimeFormats = []string{"rfc3339", "date", "datetime", "unix", "unix_ms", "unix_us"}

// clock returns what reads the times of a format. Those without a zone are UTC.
func clock(format string) (func(any) (time.Time, error), error) {
	var unit int64 // per second
	var layouts []string
	switch format {
	case "":
		unit, layouts = 1000, []string{time.RFC3339Nano, time.DateOnly, time.DateTime, "2006-01-02T15:04:05"}
	case "rfc3339":
		layouts = []string{time.RFC3339Nano}
	case "date":
		layouts = []string{time.DateOnly}
	case "datetime":
		layouts = []string{time.DateTime}
	case "unix":
		unit = 1
	case "unix_ms":
		unit = 1e3
	case "unix_us":
		unit = 1e6
	default:
		if !strings.Contains(format, "2006") {
			return nil, fmt.Errorf("--time-format %q is neither one of %s nor a layout with the year 2006 in it, such as 02.01.2006 15:04",
				format, strings.Join(TimeFormats, ", "))
		}
		layouts = []string{format}
	}
	example := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	return func(v any) (time.Time, error) {
		text := ""
		switch v := v.(type) {
		case nil:
		case string:
			text = strings.TrimSpace(v)
		case json.Number:
			text = string(v)
		default:
			return time.Time{}, fmt.Errorf("%v is not a time", v)
		}
		if text == "" {
			return time.Time{}, errors.New("empty; every event needs its time")
		}
		if unit != 0 {
			if t, ok := instant(text, unit); ok {
				return t, nil
			}
		}
		for _, l := range layouts {
			if t, err := time.Parse(l, text); err == nil {
				return t, nil
			}
		}
		if len(layouts) == 0 {
			return time.Time{}, fmt.Errorf("%q is no %s time, such as %d; say which it is with --time-format", text, format, example.Unix()*unit)
		}
		return time.Time{}, fmt.Errorf("%q is not written as %s; say how it is with --time-format", text, example.Format(layouts[0]))
	}, nil
}

// instant reads a number of units since the epoch, with or without a fraction.
func instant(text string, perSecond int64) (time.Time, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if q := n / perSecond; q > 1<<36 || q < -1<<36 { // beyond the year 4000 or so it is another unit
			return time.Time{}, false
		}
		return time.Unix(n/perSecond, n%perSecond*(1e9/perSecond)), true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f/float64(perSecond)) > 1<<36 {
		return time.Time{}, false
	}
	s := math.Floor(f / float64(perSecond))
	return time.Unix(int64(s), int64(math.Round((f/float64(perSecond)-s)*1e6))*1e3), true
}

func inUnit(t time.Time, unit string) int64 {
	switch unit {
	case "us":
		return t.UnixMicro()
	case "s":
		return t.Unix()
	}
	return t.UnixMilli()
}
