// Package tty writes to people's terminals: pages that are refreshed in place, as wide as there is room, coloured unless NO_COLOR is set.
// What is no terminal gets plain lines.
package tty

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Screen is where a command writes. It belongs to one goroutine.
type Screen struct {
	out   io.Writer
	fd    int
	live  bool
	color bool
	drawn int // lines of the page that is refreshed in place
}

// New looks at what w is.
func New(w io.Writer) *Screen {
	s := &Screen{out: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.fd, s.live, s.color = int(f.Fd()), true, os.Getenv("NO_COLOR") == ""
	return s
}

// Live reports whether what was written can be refreshed.
func (s *Screen) Live() bool { return s.live }

// Size returns the columns and rows of the terminal; 80 and 24 where that is not known.
func (s *Screen) Size() (columns, rows int) {
	columns, rows, err := term.GetSize(s.fd)
	if !s.live || err != nil || columns < 1 || rows < 1 {
		return 80, 24
	}
	return columns, rows
}

// Draw replaces the page drawn last by lines, each cut at the edge; lines beyond the lower edge are left out. It does nothing where there is no terminal.
func (s *Screen) Draw(lines ...string) {
	if !s.live {
		return
	}
	columns, rows := s.Size()
	lines = lines[:min(len(lines), max(rows-1, 1))]
	var b strings.Builder
	s.up(&b)
	for _, l := range lines {
		b.WriteString(Cut(l, columns))
		b.WriteString("\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	s.drawn = len(lines)
	s.write(b.String())
}

// Print writes lines that stay, above the page.
func (s *Screen) Print(lines ...string) {
	var b strings.Builder
	s.up(&b)
	for _, l := range lines {
		b.WriteString(l)
		if s.live {
			b.WriteString("\x1b[K")
		}
		b.WriteString("\n")
	}
	if s.live {
		b.WriteString("\x1b[J")
	}
	s.drawn = 0
	s.write(b.String())
}

// up moves to the first line of the page.
func (s *Screen) up(b *strings.Builder) {
	if s.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r", s.drawn)
	}
}

// write gives everything in one piece, so that no half of a page is seen. A terminal that went away is not worth an error.
func (s *Screen) write(text string) { _, _ = io.WriteString(s.out, text) }

// The styles of text.
const (
	Bold   = "1"
	Dim    = "2"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Style returns text in a style, where the terminal has colours.
func (s *Screen) Style(style, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// Cut returns the first columns of text. Styles take no room, and are ended where text is cut.
func Cut(text string, columns int) string {
	n := 0
	for i := 0; i < len(text); {
		if strings.HasPrefix(text[i:], "\x1b[") {
			end := strings.IndexByte(text[i:], 'm')
			if end < 0 {
				break
			}
			i += end + 1
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		if n++; n > columns {
			if strings.Contains(text[:i], "\x1b[") {
				return text[:i] + "\x1b[0m"
			}
			return text[:i]
		}
		i += size
	}
	return text
}
