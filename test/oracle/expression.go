package oracle

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// expression is a CEL expression over cells, run by cel-go's interpreter without its type checker. A null operand is an error, except to
// == null, != null and has(): these become variables of their own, and every other use of a null name resolves to an error, which && and ||
// absorb as CEL has it.
type expression struct {
	program cel.Program
	names   []string // the columns or features it names
}

// nullSuffix makes the variable that says whether a name is null; no field is called like this.
const nullSuffix = " is null"

func compile(text string) (*expression, error) {
	env, err := cel.NewEnv(cel.ClearMacros())
	if err != nil {
		return nil, err
	}
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("expression %q: %w", text, issues.Err())
	}
	x := &expression{}
	make := ast.NewExprFactory()
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) { x.rewrite(make, e) }))
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(x.collect))
	if x.program, err = env.Program(parsed); err != nil {
		return nil, fmt.Errorf("expression %q: %w", text, err)
	}
	return x, nil
}

// rewrite turns dotted names into one identifier, and null tests into the variable of the test.
func (x *expression) rewrite(make ast.ExprFactory, e ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		if s := e.AsSelect(); s.Operand().Kind() == ast.IdentKind {
			e.SetKindCase(make.NewIdent(e.ID(), s.Operand().AsIdent()+"."+s.FieldName()))
		}
	case ast.CallKind:
		call := e.AsCall()
		name, args := call.FunctionName(), call.Args()
		test := func(of ast.Expr) ast.Expr { return make.NewIdent(e.ID(), of.AsIdent()+nullSuffix) }
		switch {
		case name == "has" && len(args) == 1 && args[0].Kind() == ast.IdentKind:
			e.SetKindCase(make.NewCall(e.ID(), operators.LogicalNot, test(args[0])))
		case name == operators.Equals || name == operators.NotEquals:
			of := args[0]
			if isNull(of) {
				of = args[1]
			}
			if of.Kind() != ast.IdentKind || !isNull(args[0]) && !isNull(args[1]) {
				return
			}
			if name == operators.Equals {
				e.SetKindCase(test(of))
			} else {
				e.SetKindCase(make.NewCall(e.ID(), operators.LogicalNot, test(of)))
			}
		}
	}
}

func isNull(e ast.Expr) bool {
	return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.NullValue
}

func (x *expression) collect(e ast.Expr) {
	if e.Kind() != ast.IdentKind {
		return
	}
	name := e.AsIdent()
	if n := len(name) - len(nullSuffix); n > 0 && name[n:] == nullSuffix {
		name = name[:n]
	}
	if !slices.Contains(x.names, name) {
		x.names = append(x.names, name)
	}
}

// isTrue is whether a `where` holds: an error is false.
func (x *expression) isTrue(find func(name string) (cell, bool)) bool {
	v, _, err := x.program.Eval(names(find))
	return err == nil && v == types.True
}

// value is what a `derive` gives; an error, NaN and ±Inf are null.
func (x *expression) value(find func(name string) (cell, bool)) cell {
	v, _, err := x.program.Eval(names(find))
	if err != nil {
		return cell{}
	}
	switch v := v.(type) {
	case types.Bool:
		return boolCell(bool(v))
	case types.Int:
		return intCell(int64(v))
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return cell{}
		}
		return doubleCell(float64(v))
	case types.String:
		return cell{kind: kindString, s: string(v)}
	case types.Timestamp:
		return timeCell(v.Time.UnixMilli())
	}
	return cell{}
}

// names is the activation of an expression.
type names func(name string) (cell, bool)

// ResolveName implements interpreter.Activation.
func (find names) ResolveName(name string) (any, bool) {
	if n := len(name) - len(nullSuffix); n > 0 && name[n:] == nullSuffix {
		c, ok := find(name[:n])
		return types.Bool(c.null()), ok
	}
	c, ok := find(name)
	return c.cel(), ok
}

// Parent implements interpreter.Activation.
func (find names) Parent() interpreter.Activation { return nil }

// cel is the cell as expressions see it.
func (c cell) cel() ref.Val {
	switch c.kind {
	case kindBool:
		return types.Bool(c.n != 0)
	case kindInt:
		return types.Int(c.n)
	case kindDouble:
		return types.Double(c.f)
	case kindDecimal:
		f, _ := new(big.Rat).SetFrac(c.big, powerOfTen(c.scale)).Float64()
		return types.Double(f)
	case kindTime:
		return types.Timestamp{Time: time.UnixMilli(c.n).UTC()}
	case kindBytes:
		return types.Bytes(c.s)
	case kindFloats:
		return types.DefaultTypeAdapter.NativeToValue(c.floats())
	case kindString, kindUUID:
		return types.String(c.s)
	}
	return types.NewErr("a null operand")
}
