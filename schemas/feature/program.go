package feature

import "github.com/freshet-dev/freshet/schemas"

// Program is a compiled CEL expression over a row of values. It allocates nothing and may be used by any number of goroutines.
type Program struct {
	source string
}

// Source returns the expression's text.
func (p *Program) Source() string { return p.source }

// Bool evaluates a `where`: true only if the expression is true. An error or a null is false, and err is set so that it can be counted.
func (p *Program) Bool(row []schemas.Value) (ok, err bool) { panic("unfinished") }

// Value evaluates a `derive`: null, with err set, where the expression errs or an operand is null. The result's Bytes may alias the row's.
func (p *Program) Value(row []schemas.Value) (v schemas.Value, err bool) { panic("unfinished") }
