package feature

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/cel-go/cel"

	"github.com/freshet-dev/freshet/schemas"
)

// testColumns are the columns of the expressions of tests.
var testColumns = []struct {
	name string
	typ  schemas.Type
	cel  *cel.Type
}{
	{"i", schemas.Type{Kind: schemas.Int}, cel.IntType},
	{"big", schemas.Type{Kind: schemas.Int}, cel.IntType},
	{"d", schemas.Type{Kind: schemas.Double}, cel.DoubleType},
	{"e", schemas.Type{Kind: schemas.Double}, cel.DoubleType},
	{"price", schemas.Type{Kind: schemas.Decimal, Scale: 2}, cel.DoubleType},
	{"s", schemas.Type{Kind: schemas.String}, cel.StringType},
	{"r.t", schemas.Type{Kind: schemas.String}, cel.StringType},
	{"b", schemas.Type{Kind: schemas.Bool}, cel.BoolType},
	{"at", schemas.Type{Kind: schemas.Time}, cel.TimestampType},
	{"raw", schemas.Type{Kind: schemas.Bytes}, cel.BytesType},
	{"id", schemas.Type{Kind: schemas.UUID}, nil},
	{"vector", schemas.Type{Kind: schemas.Floats, Dim: 3}, nil},
}

func testLookup(name string) (int, schemas.Type, *exprProblem) {
	var names []string
	for i, c := range testColumns {
		if c.name == name {
			return i, c.typ, nil
		}
		names = append(names, c.name)
	}
	return -1, schemas.Type{}, &exprProblem{message: fmt.Sprintf("no column %q", name), hint: nearest(name, names)}
}

func mustCompile(t testing.TB, source string) *Program {
	t.Helper()
	p, problems := compileExpression(source, testLookup)
	if p == nil {
		t.Fatalf("%s: %v", source, problems)
	}
	return p
}

// expressions makes random expressions, each in our text and in the one that cel-go's evaluator is asked with. They differ where CEL's
// type checker is narrower: == of int and double goes through dyn, null tests are variables.
type expressions struct{ *rand.Rand }

type pair struct{ ours, cel string }

func (r expressions) pick(all ...string) string { return all[r.IntN(len(all))] }

func same2(text string) pair { return pair{text, text} }

func (r expressions) bool(depth int) pair {
	if depth == 0 {
		name := r.pick("i", "d", "s", "b", "at", "price")
		return []pair{same2("b"), same2(r.pick("true", "false")), {name + " != null", "!null_" + name}, {name + " == null", "null_" + name}, {"has(" + name + ")", "!null_" + name}}[r.IntN(5)]
	}
	order := r.pick("==", "!=", "<", "<=", ">", ">=")
	switch r.IntN(13) {
	case 0:
		return join(r.bool(depth-1), r.pick("&&", "||"), r.bool(depth-1))
	case 1:
		return join(r.bool(depth-1), r.pick("&&", "||"), r.bool(depth-1))
	case 2:
		x := r.bool(depth - 1)
		return pair{"!(" + x.ours + ")", "!(" + x.cel + ")"}
	case 3:
		return join(r.int(depth-1), order, r.int(depth-1))
	case 4, 5:
		return join(r.double(depth-1), order, r.double(depth-1))
	case 6: // mixed; the int side is small, as cel-go compares large ones as doubles
		x, y := r.double(depth-1), same2(r.pick("i", "3", "-2", "0"))
		if r.IntN(2) == 0 {
			x, y = y, x
		}
		return pair{"(" + x.ours + " " + order + " " + y.ours + ")", "(dyn(" + x.cel + ") " + order + " " + y.cel + ")"}
	case 7:
		return join(r.text(), order, r.text())
	case 8:
		return same2("at " + order + ` timestamp("2026-01-0` + strconv.Itoa(1+r.IntN(3)) + `T00:00:00Z")`)
	case 9:
		return same2(r.pick(`s in ["a", "béta", "x"]`, "i in [1, 2, 3]", "d in [0.5, 2.0]", `at in [timestamp("2026-01-02T00:00:00Z")]`))
	case 10:
		return r.pickPair(pair{"i in [1.0, 2.5, 3]", "dyn(i) in [dyn(1.0), 2.5, 3]"}, pair{"d in [1, 2, 0.5]", "dyn(d) in [dyn(1), 2, 0.5]"})
	case 11:
		x, y := r.text(), r.text()
		f := r.pick("startsWith", "endsWith", "contains")
		return r.pickPair(pair{x.ours + "." + f + "(" + y.ours + ")", x.cel + "." + f + "(" + y.cel + ")"}, same2(r.pick(`s.matches("^b.t")`, `r.t.matches("[aé]+x?$")`)))
	}
	return r.choose(r.bool(depth-1), r.bool(depth-1), r.bool(depth-1))
}

func (r expressions) pickPair(all ...pair) pair { return all[r.IntN(len(all))] }

func join(x pair, symbol string, y pair) pair {
	return pair{"(" + x.ours + " " + symbol + " " + y.ours + ")", "(" + x.cel + " " + symbol + " " + y.cel + ")"}
}

func (r expressions) choose(c, x, y pair) pair {
	return pair{"(" + c.ours + " ? " + x.ours + " : " + y.ours + ")", "(" + c.cel + " ? " + x.cel + " : " + y.cel + ")"}
}

func (r expressions) int(depth int) pair {
	if depth == 0 {
		return same2(r.pick("i", "i", "big", "0", "7", "-3", "size(s)", "r.t.size()", "int(at)", "size(raw)", "9223372036854775807", "-9223372036854775808"))
	}
	switch r.IntN(5) {
	case 0:
		x := r.int(depth - 1)
		return pair{"-(" + x.ours + ")", "-(" + x.cel + ")"}
	case 1:
		x := r.double(depth - 1)
		return pair{"int(" + x.ours + ")", "int(" + x.cel + ")"}
	case 2:
		return r.choose(r.bool(depth-1), r.int(depth-1), r.int(depth-1))
	}
	return join(r.int(depth-1), r.pick("+", "-", "*", "/", "%"), r.int(depth-1))
}

func (r expressions) double(depth int) pair {
	if depth == 0 {
		return same2(r.pick("d", "e", "price", "0.0", "2.5", "-1.0", "1e300", "double(i)", "double(big)"))
	}
	switch r.IntN(5) {
	case 0:
		x := r.double(depth - 1)
		return pair{"-(" + x.ours + ")", "-(" + x.cel + ")"}
	case 1:
		return r.choose(r.bool(depth-1), r.double(depth-1), r.double(depth-1))
	}
	return join(r.double(depth-1), r.pick("+", "-", "*", "/"), r.double(depth-1))
}

func (r expressions) text() pair {
	return same2(r.pick("s", "r.t", `"a"`, `"béta"`, `"é"`, `""`, "(b ? s : r.t)"))
}

// row makes a random row, and what cel-go's evaluator is told of it: a null is a variable that is not there.
func (r expressions) row() ([]schemas.Value, map[string]any) {
	row := make([]schemas.Value, len(testColumns))
	known := map[string]any{}
	for i, c := range testColumns {
		null := r.IntN(5) == 0
		known["null_"+c.name] = null
		if null {
			continue
		}
		switch c.typ.Kind {
		case schemas.Int:
			v := []int64{0, 1, 2, 3, -1, 7, 100}[r.IntN(7)]
			if c.name == "big" {
				v = []int64{math.MaxInt64, math.MinInt64, 1<<53 + 1, -1, 3_037_000_500}[r.IntN(5)]
			}
			row[i], known[c.name] = schemas.IntValue(v), v
		case schemas.Double:
			v := []float64{0, 0.5, 1, 2, -1.5, 1e308, 5e-324, 0.1, 3}[r.IntN(9)]
			row[i], known[c.name] = schemas.DoubleValue(v), v
		case schemas.Decimal:
			v := []int64{0, 250, -100, 1234567, 10}[r.IntN(5)]
			row[i], known[c.name] = schemas.DecimalValue(v>>63, uint64(v)), float64(v)/100
		case schemas.String:
			v := r.pick("a", "béta", "", "x", "aé", "é")
			row[i], known[c.name] = schemas.StringValue([]byte(v)), v
		case schemas.Bool:
			v := r.IntN(2) == 0
			row[i], known[c.name] = schemas.BoolValue(v), v
		case schemas.Time:
			v := time.Date(2026, 1, 1+r.IntN(3), 0, 0, 0, r.IntN(2)*500_000_000, time.UTC)
			row[i], known[c.name] = schemas.TimeValue(v.UnixMilli()), v
		case schemas.Bytes:
			v := []byte(r.pick("", "ab"))
			row[i], known[c.name] = schemas.Value{Kind: schemas.Bytes, Bytes: v}, v
		}
	}
	return row, known
}

func celEnv(t testing.TB) *cel.Env {
	options := []cel.EnvOption{cel.CrossTypeNumericComparisons(true)}
	for _, c := range testColumns {
		options = append(options, cel.Variable("null_"+strings.ReplaceAll(c.name, ".", "_"), cel.BoolType))
		if c.cel != nil {
			options = append(options, cel.Variable(c.name, c.cel))
		}
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// TestExpressionsEqualCEL compares our programs with cel-go's evaluator on random expressions and rows.
func TestExpressionsEqualCEL(t *testing.T) {
	const count, rows = 4000, 8
	env := celEnv(t)
	r := expressions{rand.New(rand.NewPCG(1, 2))}
	outcomes := map[string]int{}
	for range count {
		var text pair
		switch depth := 1 + r.IntN(3); r.IntN(3) {
		case 0:
			text = r.bool(depth)
		case 1:
			text = r.int(depth)
		default:
			text = r.double(depth)
		}
		ours := mustCompile(t, text.ours)
		again := mustCompile(t, ours.Canonical())
		if again.Canonical() != ours.Canonical() {
			t.Fatalf("%s: canonical text %s becomes %s", text.ours, ours.Canonical(), again.Canonical())
		}
		tree, issues := env.Compile(text.cel)
		if issues.Err() != nil {
			t.Fatalf("cel-go refuses %s: %v", text.cel, issues.Err())
		}
		theirs, err := env.Program(tree)
		if err != nil {
			t.Fatal(err)
		}
		for range rows {
			row, known := r.row()
			want := "error"
			if v, _, err := theirs.Eval(known); err == nil {
				want = celText(v.Value())
			}
			got := valueText(ours.Value(row))
			if got != want || valueText(again.Value(row)) != want {
				t.Fatalf("%s\nover %v\nis %s, %s in its canonical text %s; cel-go says %s", text.ours, known, got, valueText(again.Value(row)), ours.Canonical(), want)
			}
			outcomes[map[bool]string{true: "error", false: "value"}[want == "error"]]++
			if tree.OutputType() == cel.BoolType {
				ok, bad := ours.Bool(row)
				if ok != (want == "true") || bad != (want == "error") {
					t.Fatalf("%s over %v: Bool says %v, %v; cel-go %s", text.ours, known, ok, bad, want)
				}
				outcomes[want]++
			}
		}
	}
	for _, outcome := range []string{"value", "error", "true", "false"} {
		if outcomes[outcome] < count/4 {
			t.Errorf("only %d of the evaluations came out as %s: the generator tests nothing", outcomes[outcome], outcome)
		}
	}
}

func celText(v any) string {
	if f, ok := v.(float64); ok {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return "error"
		}
		return fmt.Sprintf("%x", f+0)
	}
	return fmt.Sprint(v)
}

func valueText(v schemas.Value, err bool) string {
	switch {
	case err != v.IsNull():
		return fmt.Sprintf("null is %v but the error %v", v.IsNull(), err)
	case err:
		return "error"
	case v.Kind == schemas.Bool:
		return strconv.FormatBool(v.Bits == 1)
	case v.Kind == schemas.Double:
		return fmt.Sprintf("%x", v.Float64())
	}
	return strconv.FormatInt(v.Int64(), 10)
}
