package feature

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/cel-go/common/ast"

	"github.com/freshet-dev/freshet/schemas"
)

// function is a function of expressions: how many arguments it takes (a receiver is the first), and whether it may be called on a
// receiver (x.f(y)) and without one (f(x, y)).
type function struct {
	args             int
	receiver, global bool
	usage            string
	compile          func(c *exprCompiler, e ast.Expr, args []ast.Expr) node
}

// functions are set by init, as their compilers lead back to them.
var functions map[string]function

func init() {
	functions = map[string]function{
		"has":        {1, false, true, "has(column)", (*exprCompiler).has},
		"size":       {1, true, true, "size(column)", (*exprCompiler).size},
		"startsWith": {2, true, false, `column.startsWith("text")`, textTest("startsWith", bytes.HasPrefix)},
		"endsWith":   {2, true, false, `column.endsWith("text")`, textTest("endsWith", bytes.HasSuffix)},
		"contains":   {2, true, false, `column.contains("text")`, textTest("contains", bytes.Contains)},
		"matches":    {2, true, true, `column.matches("regular expression")`, (*exprCompiler).matches},
		"timestamp":  {1, false, true, `timestamp("2026-01-31T00:00:00Z")`, (*exprCompiler).timestamp},
		"int":        {1, false, true, "int(column)", (*exprCompiler).toInt},
		"double":     {1, false, true, "double(column)", (*exprCompiler).toDouble},
	}
}

func (c *exprCompiler) function(e ast.Expr, call ast.CallExpr) node {
	name, args := call.FunctionName(), call.Args()
	f, ok := functions[name]
	if !ok {
		names := slices.Sorted(maps.Keys(functions))
		hint, mend := nearest(name, names), ""
		if hint == "" {
			mend = "there is " + strings.Join(names, ", ")
		}
		return c.fail(e, fmt.Sprintf("function %s is not supported in expressions", name), hint, mend)
	}
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	if len(args) != f.args || call.IsMemberFunction() && !f.receiver || !call.IsMemberFunction() && !f.global {
		return c.fail(e, fmt.Sprintf("%s is not called like this", name), "", "write "+f.usage)
	}
	return f.compile(c, e, args)
}

func (c *exprCompiler) has(e ast.Expr, args []ast.Expr) node {
	x := c.compile(args[0])
	if x.class == classNone {
		return x
	}
	if !x.isColumn {
		return c.fail(args[0], "has needs a column", "", "")
	}
	n := nullTest(x.column, false)
	n.text = "(" + x.text + " != null)"
	return n
}

// size is CEL's: characters of a string, bytes of bytes, elements of an array.
func (c *exprCompiler) size(_ ast.Expr, args []ast.Expr) node {
	x := c.compile(args[0])
	if !c.want(args[0], "size", x, classText, classBytes, classFloats) {
		return node{}
	}
	count := func(b []byte) int { return len(b) }
	switch x.class {
	case classText:
		count = utf8.RuneCount
	case classFloats:
		count = func(b []byte) int { return len(b) / 4 }
	}
	return node{class: classInt, literal: x.literal, text: "size(" + x.text + ")", int: func(row []schemas.Value) (int64, bool) {
		b, ok := x.bytes(row)
		return int64(count(b)), ok
	}}
}

func textTest(name string, test func(text, part []byte) bool) func(*exprCompiler, ast.Expr, []ast.Expr) node {
	return func(c *exprCompiler, _ ast.Expr, args []ast.Expr) node {
		x, y := c.compile(args[0]), c.compile(args[1])
		ok := c.want(args[0], name, x, classText)
		if !c.want(args[1], name, y, classText) || !ok {
			return node{}
		}
		return node{class: classBool, literal: x.literal && y.literal, text: x.text + "." + name + "(" + y.text + ")", bool: func(row []schemas.Value) truth {
			a, ok := x.bytes(row)
			b, ok2 := y.bytes(row)
			if !ok || !ok2 {
				return bad
			}
			return truthOf(test(a, b))
		}}
	}
}

// matches finds an RE2 pattern anywhere in the text, as CEL does.
func (c *exprCompiler) matches(_ ast.Expr, args []ast.Expr) node {
	x, y := c.compile(args[0]), c.compile(args[1])
	ok := c.want(args[0], "matches", x, classText)
	if !c.want(args[1], "matches", y, classText) || !ok {
		return node{}
	}
	if !y.literal {
		return c.fail(args[1], "the pattern of matches must be a literal", "", "")
	}
	re, err := regexp.Compile(string(literalBytes(y)))
	if err != nil {
		return c.fail(args[1], err.Error(), "", "the syntax is RE2's")
	}
	return node{class: classBool, literal: x.literal, text: x.text + ".matches(" + y.text + ")", bool: func(row []schemas.Value) truth {
		b, ok := x.bytes(row)
		if !ok {
			return bad
		}
		return truthOf(re.Match(b))
	}}
}

func (c *exprCompiler) timestamp(_ ast.Expr, args []ast.Expr) node {
	x := c.compile(args[0])
	if x.class == classNone || x.class == classTime {
		return x
	}
	if x.class != classText || !x.literal {
		return c.fail(args[0], "timestamp needs a literal text", "", `write timestamp("2026-01-31T00:00:00Z")`)
	}
	t, err := time.Parse(time.RFC3339Nano, string(literalBytes(x)))
	if err != nil {
		return c.fail(args[0], fmt.Sprintf("%s is not a timestamp", x.text), "", `write it like "2026-01-31T00:00:00Z"`)
	}
	if t.Nanosecond()%1e6 != 0 {
		return c.fail(args[0], "times are in milliseconds, this is finer", "", "")
	}
	return intLiteral(classTime, t.UnixMilli(), "timestamp(\""+t.UTC().Format(time.RFC3339Nano)+"\")")
}

// toInt is CEL's: a double is cut toward zero and must fit, a timestamp gives its whole seconds since 1970.
func (c *exprCompiler) toInt(_ ast.Expr, args []ast.Expr) node {
	x := c.compile(args[0])
	if !c.want(args[0], "int", x, classInt, classDouble, classTime) {
		return node{}
	}
	n := node{class: classInt, text: "int(" + x.text + ")"}
	switch x.class {
	case classInt:
		return x
	case classDouble:
		n.int = func(row []schemas.Value) (int64, bool) {
			f, ok := x.double(row)
			if !ok || !(f > -1<<63 && f < 1<<63) {
				return 0, false
			}
			return int64(f), true
		}
	default:
		n.int = func(row []schemas.Value) (int64, bool) {
			ms, ok := x.int(row)
			s := ms / 1000
			if ms%1000 < 0 {
				s--
			}
			return s, ok
		}
	}
	if x.literal {
		_, n.literal = n.int(nil)
	}
	return n
}

func (c *exprCompiler) toDouble(_ ast.Expr, args []ast.Expr) node {
	x := c.compile(args[0])
	if !c.want(args[0], "double", x, classInt, classDouble) || x.class == classDouble {
		return x
	}
	return node{class: classDouble, literal: x.literal, text: "double(" + x.text + ")", double: func(row []schemas.Value) (float64, bool) {
		i, ok := x.int(row)
		return float64(i), ok
	}}
}
