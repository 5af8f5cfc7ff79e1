package feature

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem keeps a definition from running.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// MaxProblems is the largest number of problems told of one file; what is beyond it is not looked at.
const MaxProblems = 100

// Problem is one thing that is wrong, or could be better, in a definition file.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1
	Column   int      `json:"column"` // from 1, in characters
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`        // what is wrong
	Hint     string   `json:"hint,omitempty"` // the nearest right name, where there is one
	Mend     string   `json:"mend,omitempty"` // what to do about it
}

// String returns `file:line:column: what is wrong; did you mean "…"; the mend`, with "warning: " before the message of a warning.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		fmt.Fprintf(&b, "; did you mean %q", p.Hint)
	}
	if p.Mend != "" {
		b.WriteString("; " + p.Mend)
	}
	return b.String()
}

// Problems are the problems of one or more files, in the order of the files and of their places in them.
type Problems []Problem

// Errors returns how many of the problems are errors.
func (ps Problems) Errors() int {
	n := 0
	for _, p := range ps {
		if p.Severity == Error {
			n++
		}
	}
	return n
}

// Err returns the errors among the problems as one error, a line each, or nil where there are only warnings.
func (ps Problems) Err() error {
	var lines []string
	for _, p := range ps {
		if p.Severity == Error {
			lines = append(lines, p.String())
		}
	}
	if lines == nil {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(lines, "\n"))
}

// sort orders the problems of one file by place.
func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// reports collects the problems of one file, up to MaxProblems.
type reports struct {
	file     string
	problems Problems
}

// full reports whether no more problems are wanted. Work that only serves to tell a problem better is skipped then.
func (r *reports) full() bool { return len(r.problems) >= MaxProblems }

func (r *reports) add(p Problem) {
	if r.full() {
		return
	}
	if p.File = r.file; p.Severity == "" {
		p.Severity = Error
	}
	if r.problems = append(r.problems, p); r.full() {
		r.problems[len(r.problems)-1].Mend = fmt.Sprintf("this is the last of %d problems told at once, mend them first", MaxProblems)
	}
}

// nearest returns the name that is most like the wrong one, or "" where none is near: at most a third of its letters may differ.
func nearest(wrong string, names []string) string {
	if len(wrong) > 128 {
		return ""
	}
	best, limit := "", max(1, len(wrong)/3)+1
	for _, name := range names {
		if abs(len(name)-len(wrong)) >= limit {
			continue
		}
		if d := distance(wrong, name); d < limit {
			best, limit = name, d
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// distance is the optimal string alignment distance of a and b in bytes, letter case aside: how many letters must be added, left out,
// changed or swapped with their neighbour.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
