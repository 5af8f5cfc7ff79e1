package feature

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/parser"

	"github.com/freshet-dev/freshet/schemas"
)

// MaxExpressionChars is the longest expression.
const MaxExpressionChars = 4096

// exprProblem is something wrong in an expression, at a line (from 1) and column (from 0, in characters) of its text.
type exprProblem struct {
	line, column        int
	message, hint, mend string
}

// lookup finds a name that an expression uses: the number of a column (or feature) in the row and its type. Where there is none it says so
// in message, hint and mend of the problem; a problem without a message was told before.
type lookup func(name string) (index int, t schemas.Type, problem *exprProblem)

// parseCEL is cel-go's parser without macros: has() is a function here, and exists(), map() and the like are refused by their names.
var parseCEL = func() *parser.Parser {
	p, err := parser.NewParser(parser.MaxRecursionDepth(100), parser.ExpressionSizeCodePointLimit(MaxExpressionChars),
		parser.ErrorReportingLimit(1), parser.ErrorRecoveryLimit(1)) // only the first syntax error is told
	if err != nil {
		panic(err) // the options are constants
	}
	return p
}()

// compileExpression parses, checks and compiles an expression. The result is nil where there are problems.
func compileExpression(source string, find lookup) (*Program, []exprProblem) {
	if strings.TrimSpace(source) == "" {
		return nil, []exprProblem{{line: 1, message: "the expression is empty"}}
	}
	if utf8.RuneCountInString(source) > MaxExpressionChars {
		return nil, []exprProblem{{line: 1, message: fmt.Sprintf("the expression is longer than %d characters", MaxExpressionChars)}}
	}
	parsed, errs := parseCEL.Parse(common.NewTextSource(source))
	if list := errs.GetErrors(); len(list) > 0 {
		return nil, []exprProblem{syntaxProblem(list[0])} // what follows the first is mostly its consequence
	}
	c := exprCompiler{info: parsed.SourceInfo(), find: find}
	root := c.compile(parsed.Expr())
	if root.class == classNull {
		c.fail(parsed.Expr(), "null is not a value here", "", "")
	}
	if c.broken {
		return nil, c.problems
	}
	return &Program{source: source, canonical: root.text, root: root}, nil
}

// syntaxProblem says in plain words what cel-go's parser says in its own.
func syntaxProblem(e *common.Error) exprProblem {
	p := exprProblem{line: max(1, e.Location.Line()), column: max(0, e.Location.Column())}
	message, _, _ := strings.Cut(strings.TrimPrefix(e.Message, "Syntax error: "), " expecting ")
	switch {
	case strings.HasSuffix(message, "'<EOF>'"):
		message = "it ends too early"
	case strings.HasPrefix(message, "token recognition error at: '= "):
		message, p.mend = "a lone =", "== compares"
	}
	p.message = "the expression is not CEL: " + message
	return p
}

// exprCompiler turns cel-go's syntax tree into nodes. Its checks are CEL's typing rules for the part of CEL that needs no memory.
type exprCompiler struct {
	info     *ast.SourceInfo
	find     lookup
	problems []exprProblem
	broken   bool // there is a problem, told here or before
}

// fail tells a problem at e and returns the node that silences what follows from it.
func (c *exprCompiler) fail(e ast.Expr, message, hint, mend string) node {
	if c.broken = true; message == "" {
		return node{}
	}
	at := c.info.GetStartLocation(e.ID())
	c.problems = append(c.problems, exprProblem{max(1, at.Line()), max(0, at.Column()), message, hint, mend})
	return node{}
}

func (c *exprCompiler) compile(e ast.Expr) node {
	switch e.Kind() {
	case ast.LiteralKind:
		return c.literal(e)
	case ast.IdentKind, ast.SelectKind:
		return c.name(e)
	case ast.CallKind:
		return c.call(e)
	case ast.ListKind:
		return c.fail(e, "a list may only stand right of `in`", "", "")
	case ast.MapKind, ast.StructKind:
		return c.fail(e, "maps and messages are not supported in expressions", "", "")
	}
	return c.fail(e, "this is not supported in expressions", "", "")
}

func (c *exprCompiler) literal(e ast.Expr) node {
	switch v := e.AsLiteral().(type) {
	case types.Bool:
		t := truthOf(bool(v))
		return node{class: classBool, literal: true, text: strconv.FormatBool(bool(v)), bool: func([]schemas.Value) truth { return t }}
	case types.Int:
		return intLiteral(classInt, int64(v), strconv.FormatInt(int64(v), 10))
	case types.Double:
		f := float64(v)
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return c.fail(e, "the number does not fit a double", "", "")
		}
		text := strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return node{class: classDouble, literal: true, text: text, double: func([]schemas.Value) (float64, bool) { return f, true }}
	case types.String:
		return bytesLiteral(classText, []byte(v), strconv.Quote(string(v)))
	case types.Bytes:
		return bytesLiteral(classBytes, []byte(v), "b"+strconv.Quote(string(v)))
	case types.Null:
		return node{class: classNull, text: "null"}
	case types.Uint:
		return c.fail(e, "unsigned integers are not supported", "", "leave out the u: int and double compare with each other")
	}
	return c.fail(e, "this literal is not supported", "", "")
}

func intLiteral(of class, v int64, text string) node {
	return node{class: of, literal: true, text: text, int: func([]schemas.Value) (int64, bool) { return v, true }}
}

func bytesLiteral(of class, v []byte, text string) node {
	return node{class: of, literal: true, text: text, bytes: func([]schemas.Value) ([]byte, bool) { return v, true }}
}

// path returns the dotted name that an identifier or a chain of selections spells.
func path(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), true
	case ast.SelectKind:
		before, ok := path(e.AsSelect().Operand())
		return before + "." + e.AsSelect().FieldName(), ok
	}
	return "", false
}

func (c *exprCompiler) name(e ast.Expr) node {
	name, ok := path(e)
	if !ok {
		return c.fail(e, "only fields of records have fields", "", "")
	}
	first := e
	for first.Kind() == ast.SelectKind { // a selection's own place is its last dot
		first = first.AsSelect().Operand()
	}
	i, t, problem := c.find(name)
	if problem != nil {
		return c.fail(first, problem.message, problem.hint, problem.mend)
	}
	n, ok := columnNode(name, i, t)
	if !ok {
		return c.fail(first, fmt.Sprintf("%q is a %s, which expressions cannot read yet", name, typeName(t)), "", "")
	}
	return n
}

var comparisons = map[string]struct {
	symbol string
	is     comparison
}{
	operators.Equals: {"==", isEqual}, operators.NotEquals: {"!=", isUnequal},
	operators.Less: {"<", isLess}, operators.LessEquals: {"<=", isLessEqual},
	operators.Greater: {">", isGreater}, operators.GreaterEquals: {">=", isGreaterEqual},
}

var arithmetics = map[string]string{
	operators.Add: "+", operators.Subtract: "-", operators.Multiply: "*", operators.Divide: "/", operators.Modulo: "%",
}

func (c *exprCompiler) call(e ast.Expr) node {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	if m, ok := comparisons[name]; ok {
		return c.comparison(e, m.symbol, m.is, args[0], args[1])
	}
	if symbol, ok := arithmetics[name]; ok {
		return c.arithmetic(e, symbol, args[0], args[1])
	}
	switch name {
	case operators.LogicalAnd, operators.LogicalOr:
		return c.logic(name == operators.LogicalAnd, args[0], args[1])
	case operators.LogicalNot:
		x := c.compile(args[0])
		if !c.want(args[0], "!", x, classBool) {
			return node{}
		}
		return node{class: classBool, literal: x.literal, text: "!(" + x.text + ")", bool: not(x.bool)}
	case operators.Negate:
		return c.negate(args[0])
	case operators.Conditional:
		return c.conditional(e, args)
	case operators.In:
		return c.in(args[0], args[1])
	}
	if strings.HasPrefix(name, "_") || strings.HasPrefix(name, "@") { // [], and operators that CEL may get
		return c.fail(e, fmt.Sprintf("the operator %s is not supported in expressions", strings.ReplaceAll(name, "_", "")), "", "")
	}
	return c.function(e, call)
}

// want tells a problem unless x is of one of the classes.
func (c *exprCompiler) want(e ast.Expr, of string, x node, classes ...class) bool {
	if x.class == classNone {
		return false
	}
	if slices.Contains(classes, x.class) {
		return true
	}
	if x.class == classNull {
		c.fail(e, fmt.Sprintf("%s cannot be applied to null", of), "", "null is for == and != with a column")
		return false
	}
	names := make([]string, len(classes))
	for i, k := range classes {
		names[i] = k.String()
	}
	c.fail(e, fmt.Sprintf("%s needs %s, this is %s", of, strings.Join(names, " or "), x.class), "", "")
	return false
}

func (c *exprCompiler) comparison(e ast.Expr, symbol string, m comparison, left, right ast.Expr) node {
	x, y := c.compile(left), c.compile(right)
	if x.class == classNone || y.class == classNone {
		return node{}
	}
	if x.class == classNull || y.class == classNull {
		return c.nullTest(e, symbol, m, x, y)
	}
	x, y = c.uuid(left, x, y), c.uuid(right, y, x)
	if x.class == classNone || y.class == classNone {
		return node{}
	}
	n := node{class: classBool, literal: x.literal && y.literal, text: "(" + x.text + " " + symbol + " " + y.text + ")"}
	switch {
	case x.class == classFloats || y.class == classFloats || x.class != y.class && !(x.class.number() && y.class.number()):
		return c.fail(e, fmt.Sprintf("%s and %s do not compare", x.class, y.class), "", mendComparison(x, y))
	case m.ordering() && x.class == classUUID:
		return c.fail(e, "uuids have no order", "", "use == or !=")
	}
	n.bool = compare(m, x, y)
	return n
}

func mendComparison(x, y node) string {
	switch {
	case x.class == classTime && y.class == classText || x.class == classText && y.class == classTime:
		return `write timestamp("2026-01-31T00:00:00Z")`
	case x.class.number() && y.class == classText && y.literal, x.class == classText && x.literal && y.class.number():
		return "write the number without quotes"
	case x.class == classText && y.literal, y.class == classText && x.literal:
		return `write the text in quotes`
	case x.class == classTime && y.class.number(), x.class.number() && y.class == classTime:
		return "int(…) of a timestamp is its seconds since 1970"
	}
	return ""
}

// uuid reads a text literal as a UUID where the other side is one.
func (c *exprCompiler) uuid(e ast.Expr, x, other node) node {
	if other.class != classUUID || x.class != classText || !x.literal {
		return x
	}
	v, err := schemas.ParseEntity([]byte(strings.ToLower(string(literalBytes(x)))), []schemas.Type{{Kind: schemas.UUID}})
	if err != nil {
		return c.fail(e, fmt.Sprintf("%s is not a uuid", x.text), "", `write it like "123e4567-e89b-12d3-a456-426614174000"`)
	}
	return bytesLiteral(classUUID, v[0].Bytes, strconv.Quote(string(schemas.AppendUUID(nil, v[0].Bytes))))
}

func (c *exprCompiler) nullTest(e ast.Expr, symbol string, m comparison, x, y node) node {
	if x.class == classNull {
		x = y
	}
	if m.ordering() || !x.isColumn {
		return c.fail(e, "null is only for == and != with a column", "", "")
	}
	n := nullTest(x.column, m == isEqual)
	n.text = "(" + x.text + " " + symbol + " null)"
	return n
}

func nullTest(column int, wanted bool) node {
	return node{class: classBool, bool: func(row []schemas.Value) truth { return truthOf(row[column].IsNull() == wanted) }}
}

func (c *exprCompiler) logic(isAnd bool, left, right ast.Expr) node {
	symbol, join := "||", or
	if isAnd {
		symbol, join = "&&", and
	}
	x, y := c.compile(left), c.compile(right)
	ok := c.want(left, symbol, x, classBool)
	if !c.want(right, symbol, y, classBool) || !ok {
		return node{}
	}
	return node{class: classBool, literal: x.literal && y.literal, text: "(" + x.text + " " + symbol + " " + y.text + ")", bool: join(x.bool, y.bool)}
}

func (c *exprCompiler) arithmetic(e ast.Expr, symbol string, left, right ast.Expr) node {
	x, y := c.compile(left), c.compile(right)
	if symbol == "+" && x.class == classText && y.class == classText {
		return c.fail(e, "joining strings is not supported: expressions use no memory", "", "")
	}
	ok := c.want(left, symbol, x, classInt, classDouble)
	if !c.want(right, symbol, y, classInt, classDouble) || !ok {
		return node{}
	}
	if x.class != y.class {
		return c.fail(e, fmt.Sprintf("%s and %s do not mix in %s", x.class, y.class, symbol), "", mendMixed(x, y))
	}
	n := node{class: x.class, text: "(" + x.text + " " + symbol + " " + y.text + ")"}
	if x.class == classInt {
		n.int = applyInts(arithmeticInts[symbol], x.int, y.int)
		if x.literal && y.literal {
			_, n.literal = n.int(nil)
		}
		return n
	}
	op, ok := arithmeticDoubles[symbol]
	if !ok {
		return c.fail(e, symbol+" is for int only", "", "")
	}
	n.double, n.literal = applyDoubles(op, x.double, y.double), x.literal && y.literal
	return n
}

// mendMixed says how to make an int a double.
func mendMixed(x, y node) string {
	if x.class != classInt {
		x = y
	}
	if x.literal {
		return "write " + x.text + ".0"
	}
	return "write double(" + x.text + ")"
}

func (c *exprCompiler) negate(arg ast.Expr) node {
	x := c.compile(arg)
	if !c.want(arg, "-", x, classInt, classDouble) {
		return node{}
	}
	n := node{class: x.class, text: "-(" + x.text + ")", literal: x.literal}
	if x.class == classDouble {
		n.double = func(row []schemas.Value) (float64, bool) {
			v, ok := x.double(row)
			return -v, ok
		}
		return n
	}
	n.int = func(row []schemas.Value) (int64, bool) {
		v, ok := x.int(row)
		return -v, ok && v != math.MinInt64
	}
	if n.literal {
		_, n.literal = n.int(nil)
	}
	return n
}

func (c *exprCompiler) conditional(e ast.Expr, args []ast.Expr) node {
	condition, x, y := c.compile(args[0]), c.compile(args[1]), c.compile(args[2])
	ok := c.want(args[0], "?", condition, classBool)
	values := []class{classBool, classInt, classDouble, classTime, classText, classBytes, classUUID, classFloats}
	ok = c.want(args[1], "? :", x, values...) && ok
	if !c.want(args[2], "? :", y, values...) || !ok {
		return node{}
	}
	if x.class != y.class {
		mend := ""
		if x.class.number() && y.class.number() {
			mend = mendMixed(x, y)
		}
		return c.fail(e, fmt.Sprintf("the two outcomes of ? : are %s and %s", x.class, y.class), "", mend)
	}
	n := choose(condition.bool, x, y)
	n.text = "(" + condition.text + " ? " + x.text + " : " + y.text + ")"
	n.literal = condition.literal && x.literal && y.literal
	return n
}

// in compiles x in [literals]. Numbers are turned into x's class; one that has no equal there can never be found and is left out.
func (c *exprCompiler) in(left, right ast.Expr) node {
	x := c.compile(left)
	if right.Kind() != ast.ListKind || right.AsList().Size() == 0 {
		return c.fail(right, "`in` needs a list of literals, such as [\"a\", \"b\"]", "", "")
	}
	var ints []int64
	var doubles []float64
	var texts [][]byte
	names := make([]string, 0, right.AsList().Size())
	for _, item := range right.AsList().Elements() {
		y := c.compile(item)
		if y.class == classNone || x.class == classNone {
			continue
		}
		y = c.uuid(item, y, x)
		if !y.literal || y.class != x.class && !(x.class.number() && y.class.number()) {
			c.fail(item, fmt.Sprintf("each item of the list must be a literal %s", x.class), "", "")
			continue
		}
		names = append(names, y.text)
		switch {
		case x.class == classInt && y.class == classDouble:
			if f := literalDouble(y); compareIntDouble(int64(f), f) == 0 {
				ints = append(ints, int64(f))
			}
		case x.class == classDouble && y.class == classInt:
			if i := literalInt(y); compareIntDouble(i, float64(i)) == 0 {
				doubles = append(doubles, float64(i))
			}
		case y.class == classDouble:
			doubles = append(doubles, literalDouble(y))
		case y.int != nil:
			ints = append(ints, literalInt(y))
		case y.bytes != nil:
			texts = append(texts, literalBytes(y))
		}
	}
	if !c.want(left, "in", x, classInt, classDouble, classTime, classText, classBytes, classUUID) {
		return node{}
	}
	n := node{class: classBool, literal: x.literal, text: "(" + x.text + " in [" + strings.Join(names, ", ") + "])"}
	slices.Sort(ints)
	slices.Sort(doubles)
	switch {
	case x.int != nil:
		n.bool = memberInts(x.int, ints)
	case x.double != nil:
		n.bool = memberDoubles(x.double, doubles)
	default:
		n.bool = memberBytes(x.bytes, texts)
	}
	return n
}
