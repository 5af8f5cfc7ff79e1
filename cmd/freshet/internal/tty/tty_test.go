package tty

import (
	"bytes"
	"testing"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		want    string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"", 3, ""}, {"12 → 13", 4, "12 →"},
		{"\x1b[1mabc\x1b[0md", 4, "\x1b[1mabc\x1b[0md"}, {"\x1b[1mabcd\x1b[0m", 3, "\x1b[1mabc\x1b[0m"}, {"a\x1b[", 5, "a\x1b["},
	} {
		if got := Cut(c.text, c.columns); got != c.want {
			t.Errorf("%q at %d: %q, wanted %q", c.text, c.columns, got, c.want)
		}
	}
}

// Where there is no terminal nothing is refreshed or coloured.
func TestPlain(t *testing.T) {
	var b bytes.Buffer
	s := New(&b)
	s.Draw("a page")
	s.Print(s.Style(Bold, "a line"))
	if columns, rows := s.Size(); s.Live() || columns != 80 || rows != 24 || b.String() != "a line\n" {
		t.Errorf("%v %d %d %q", s.Live(), columns, rows, b.String())
	}
}

// A page is drawn over the one before; what stays comes above it; each is written in one piece.
func TestDraw(t *testing.T) {
	w := &pieces{}
	s := &Screen{out: w, fd: -1, live: true, color: true}
	s.Draw("one", "two")
	s.Draw("three")
	s.Print("stays")
	s.Draw(s.Style(Red, "four"))
	want := []string{
		"one\x1b[K\ntwo\x1b[K\n\x1b[J",
		"\x1b[2A\rthree\x1b[K\n\x1b[J",
		"\x1b[1A\rstays\x1b[K\n\x1b[J",
		"\x1b[31mfour\x1b[0m\x1b[K\n\x1b[J",
	}
	if len(w.list) != len(want) {
		t.Fatalf("%q", w.list)
	}
	for i := range want {
		if w.list[i] != want[i] {
			t.Errorf("%d: %q, wanted %q", i, w.list[i], want[i])
		}
	}
	many := make([]string, 100)
	s.Draw(many...)
	if s.drawn != 23 {
		t.Errorf("%d lines on 24 rows", s.drawn)
	}
}

type pieces struct{ list []string }

func (p *pieces) Write(b []byte) (int, error) {
	p.list = append(p.list, string(b))
	return len(b), nil
}
