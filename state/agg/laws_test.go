package agg

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// item is one value as every accumulator can take it.
type item struct {
	x    float64
	hi   int64
	lo   uint64
	time int64
	id   uint64
}

// accumulator is what the laws are about.
type accumulator interface {
	Append(dst []byte) []byte
	Decode(src []byte) ([]byte, error)
}

// law is one row of the table: a new accumulator adds a row.
type law struct {
	name   string
	make   func() accumulator
	add    func(a accumulator, v item)
	sub    func(a accumulator, v item) // nil: only grows
	merge  func(a, b accumulator)      // nil: is not merged
	golden string                      // the bytes after adding goldenItems
}

var laws = []law{
	{"sum of doubles", func() accumulator { return &Sum{} },
		func(a accumulator, v item) { a.(*Sum).AddDouble(v.x) },
		func(a accumulator, v item) { a.(*Sum).SubDouble(v.x) },
		func(a, b accumulator) { a.(*Sum).Merge(b.(*Sum)) }, "0e81019a343333333373a8ffc06ff28623"},
	{"sum of integers", func() accumulator { return &Sum{} },
		func(a accumulator, v item) { a.(*Sum).AddInt(v.hi, v.lo) },
		func(a accumulator, v item) { a.(*Sum).SubInt(v.hi, v.lo) },
		func(a, b accumulator) { a.(*Sum).Merge(b.(*Sum)) }, "098801c8ddffffffffffff00"},
	{"squares of doubles", func() accumulator { return &Squares{} },
		func(a accumulator, v item) { a.(*Squares).AddDouble(v.x) },
		func(a accumulator, v item) { a.(*Squares).SubDouble(v.x) },
		func(a, b accumulator) { a.(*Squares).Merge(b.(*Squares)) }, "1c8202a470de4603780b7679769ca22349a627000081efac855b416d2dee04"},
	{"squares of integers", func() accumulator { return &Squares{} },
		func(a accumulator, v item) { a.(*Squares).AddInt(v.hi, v.lo) },
		func(a accumulator, v item) { a.(*Squares).SubInt(v.hi, v.lo) },
		func(a, b accumulator) { a.(*Squares).Merge(b.(*Squares)) }, "1190023ecf0c06000000000a0000000000000001"},
	{"min", func() accumulator { return &Extreme{} },
		func(a accumulator, v item) { a.(*Extreme).Add(Key{v.hi, v.lo}, false) }, nil,
		func(a, b accumulator) {
			if b.(*Extreme).Set {
				a.(*Extreme).Add(b.(*Extreme).Key, false)
			}
		}, "01fffffffffffffffff1b1ffffffffffffff01"},
	{"max", func() accumulator { return &Extreme{} },
		func(a accumulator, v item) { a.(*Extreme).Add(DoubleKey(math.Float64bits(v.x)), true) }, nil,
		func(a, b accumulator) {
			if b.(*Extreme).Set {
				a.(*Extreme).Add(b.(*Extreme).Key, true)
			}
		}, "010080e03779c3414300"},
	{"first", func() accumulator { return &Pick{} },
		func(a accumulator, v item) { a.(*Pick).Add(v.time, v.id, []byte{byte(v.lo)}, false) }, nil,
		func(a, b accumulator) {
			if p := b.(*Pick); p.Set {
				a.(*Pick).Add(p.Time, p.ID, p.Value, false)
			}
		}, "02f1e7070200000000000000"},
	{"last", func() accumulator { return &Pick{} },
		func(a accumulator, v item) { a.(*Pick).Add(v.time, v.id, []byte{byte(v.lo)}, true) }, nil,
		func(a, b accumulator) {
			if p := b.(*Pick); p.Set {
				a.(*Pick).Add(p.Time, p.ID, p.Value, true)
			}
		}, "0205e9070300000000000000"},
}

var goldenItems = []item{
	{12.34, 0, 1234, 1000, 1}, {-99.99, -1, math.MaxUint64 - 9998, 999, 2}, {1e16, 1, 5, 1001, 3}, {0.1, 0, 0, 1000, 4},
}

// items makes values that are hard in one of several ways.
func items(r *rand.Rand, n int) []item {
	vs := make([]item, n)
	mode := r.IntN(4)
	for i := range vs {
		v := item{time: r.Int64N(5), id: uint64(i), lo: r.Uint64() >> r.IntN(64)}
		switch mode {
		case 0:
			v.x = float64(r.IntN(100_000)) / 100
		case 1:
			v.x = math.Ldexp(r.NormFloat64(), r.IntN(60)-1074)
			v.hi = int64(r.Uint64()) >> r.IntN(64)
		case 2:
			v.x = []float64{1e308, -1e308, 5e-324, -5e-324, math.MaxFloat64, 1, 1e-200, 0}[r.IntN(8)]
			v.hi, v.lo = []int64{math.MinInt64, math.MaxInt64, -1, 0}[r.IntN(4)], []uint64{0, 1, math.MaxUint64}[r.IntN(3)]
		case 3:
			for v.x = math.NaN(); math.IsNaN(v.x) || math.IsInf(v.x, 0); {
				v.x = math.Float64frombits(r.Uint64())
			}
		}
		v.x += 0 // no −0.0
		vs[i] = v
	}
	return vs
}

func TestLaws(t *testing.T) {
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			for seed := range uint64(300) {
				r := rand.New(rand.NewPCG(seed, 1))
				vs := items(r, 1+r.IntN(40))
				whole := l.make()
				for _, v := range vs {
					l.add(whole, v)
				}
				want := whole.Append(nil)
				same := func(law string, a accumulator) {
					if got := a.Append(nil); !bytes.Equal(got, want) {
						t.Fatalf("seed %d, %s: %x, want %x", seed, law, got, want)
					}
				}
				shuffled := l.make()
				for i, p := range r.Perm(len(vs)) {
					l.add(shuffled, vs[p])
					if i%3 == 0 { // through its bytes
						next := l.make()
						if rest, err := next.Decode(append(shuffled.Append(nil), 7)); err != nil || len(rest) != 1 {
							t.Fatalf("seed %d: decode: %v, %d bytes left", seed, err, len(rest))
						}
						shuffled = next
					}
				}
				same("any order, encoded and decoded", shuffled)
				if l.merge != nil {
					parts := []accumulator{l.make(), l.make(), l.make()}
					for _, v := range vs {
						l.add(parts[r.IntN(3)], v)
					}
					l.merge(parts[1], parts[2])
					l.merge(parts[0], parts[1])
					same("any batches, merged", parts[0])
				}
				if l.sub != nil {
					others := items(r, 20)
					for _, v := range others {
						l.add(whole, v)
					}
					for _, p := range r.Perm(len(others)) {
						l.sub(whole, others[p])
					}
					same("added and taken out", whole)
					for _, v := range vs {
						l.sub(whole, v)
					}
					if got := whole.Append(nil); !bytes.Equal(got, l.make().Append(nil)) {
						t.Fatalf("seed %d: %x left when all is taken out", seed, got)
					}
				}
			}
		})
	}
}

func TestGolden(t *testing.T) {
	for _, l := range laws {
		a := l.make()
		for _, v := range goldenItems {
			l.add(a, v)
		}
		if got := hex.EncodeToString(a.Append(nil)); got != l.golden {
			t.Errorf("%s: the stored bytes changed: %s, were %s", l.name, got, l.golden)
		}
	}
}

func TestUnmerge(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		var a, b Sum
		var qa, qb Squares
		for _, v := range items(r, 10) {
			a.AddDouble(v.x)
			qa.AddDouble(v.x)
		}
		want, wantQ := a.Append(nil), qa.Append(nil)
		for _, v := range items(r, 10) {
			b.AddDouble(v.x)
			qb.AddDouble(v.x)
		}
		a.Merge(&b)
		a.Unmerge(&b)
		qa.Merge(&qb)
		qa.Unmerge(&qb)
		if !bytes.Equal(a.Append(nil), want) || !bytes.Equal(qa.Append(nil), wantQ) {
			t.Fatal("a merged accumulator did not come out again")
		}
	}
}

// TestRounding compares what is read out with math/big.
func TestRounding(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		vs := items(r, 1+r.IntN(12))
		scale := []int{0, 2, 9, 25, 38}[r.IntN(5)]
		var s, si Sum
		var q, qi Squares
		rs, rq, ri, rqi := new(big.Rat), new(big.Rat), new(big.Rat), new(big.Rat)
		unit := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
		exact := new(big.Int)
		for _, v := range vs {
			s.AddDouble(v.x)
			q.AddDouble(v.x)
			si.AddInt(v.hi, v.lo)
			qi.AddInt(v.hi, v.lo)
			x := new(big.Rat).SetFloat64(v.x)
			rs.Add(rs, x)
			rq.Add(rq, x.Mul(x, x))
			i := new(big.Int).Lsh(big.NewInt(v.hi), 64)
			i.Add(i, new(big.Int).SetUint64(v.lo))
			exact.Add(exact, i)
			d := new(big.Rat).Mul(new(big.Rat).SetInt(i), unit)
			ri.Add(ri, d)
			rqi.Add(rqi, d.Mul(d, d))
		}
		n := int64(len(vs))
		sameDouble(t, seed, "sum", rs, func() (float64, bool) { return s.Float64(0) })
		sameDouble(t, seed, "decimal sum", ri, func() (float64, bool) { return si.Float64(scale) })
		i64, ok := si.Int64()
		if ok != exact.IsInt64() || ok && i64 != exact.Int64() {
			t.Fatalf("seed %d: Int64 is %d %v, want %s", seed, i64, ok, exact)
		}
		hi, lo, ok := si.Int128()
		back := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(hi), 64), new(big.Int).SetUint64(lo))
		if want := len(new(big.Int).Abs(exact).String()) <= 38; ok != want || ok && back.Cmp(exact) != 0 {
			t.Fatalf("seed %d: Int128 is %s %v, want %s", seed, back, ok, exact)
		}
		for _, population := range []bool{false, true} {
			d := n * (n - 1)
			if population {
				d = n * n
			}
			if d == 0 {
				continue
			}
			sameDouble(t, seed, "variance", variance(rs, rq, n, d), func() (float64, bool) { return Variance(&s, &q, n, 0, population) })
			sameDouble(t, seed, "decimal variance", variance(ri, rqi, n, d), func() (float64, bool) { return Variance(&si, &qi, n, scale, population) })
		}
	}
}

func variance(s, q *big.Rat, n, d int64) *big.Rat {
	v := new(big.Rat).Mul(q, big.NewRat(n, 1))
	v.Sub(v, new(big.Rat).Mul(s, s))
	return v.Quo(v, big.NewRat(d, 1))
}

func sameDouble(t *testing.T, seed uint64, what string, want *big.Rat, got func() (float64, bool)) {
	t.Helper()
	w, _ := want.Float64()
	g, ok := got()
	if ok == math.IsInf(w, 0) || ok && (g != w || math.Signbit(g) && g == 0) {
		t.Fatalf("seed %d: %s is %v %v, want %v", seed, what, g, ok, w)
	}
}

func TestSet(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		var s, back Set
		want := map[string]bool{}
		for range r.IntN(400) {
			v := bytes.Repeat([]byte{byte(r.IntN(40))}, r.IntN(10))
			if fresh := s.Add(v); fresh == want[string(v)] {
				t.Fatalf("%x: new is %v", v, fresh)
			}
			want[string(v)] = true
		}
		if s.Len() != len(want) {
			t.Fatalf("%d values, want %d", s.Len(), len(want))
		}
		rest, err := back.Load(append(bytes.Clone(s.Bytes()), 9), s.Len())
		if err != nil || len(rest) != 1 || !bytes.Equal(back.Bytes(), s.Bytes()) {
			t.Fatalf("load: %v, %d bytes left", err, len(rest))
		}
		if _, err := back.Load(s.Bytes(), s.Len()); err == nil && s.Len() > 0 {
			t.Fatal("values that are there already were loaded again")
		}
	}
}

// FuzzDecode: no bytes make a decoder panic, and what it takes it gives back.
func FuzzDecode(f *testing.F) {
	for i, l := range laws {
		a := l.make()
		for _, v := range goldenItems {
			l.add(a, v)
		}
		f.Add(byte(i), a.Append(nil))
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		l := laws[int(which)%len(laws)]
		a := l.make()
		rest, err := a.Decode(data)
		if err != nil {
			return
		}
		b := l.make()
		if _, err := b.Decode(a.Append(nil)); err != nil {
			t.Fatalf("%x of %x is refused: %v", a.Append(nil), data[:len(data)-len(rest)], err)
		}
		l.add(a, goldenItems[0])
		if s, ok := a.(*Sum); ok {
			s.Float64(2)
			s.Int128()
		}
	})
}

func BenchmarkSum(b *testing.B) {
	var s Sum
	for x := 12.34; b.Loop(); x += 0.01 {
		s.AddDouble(x)
		s.SubDouble(x)
	}
}

func BenchmarkSquares(b *testing.B) {
	var s Squares
	for x := 12.34; b.Loop(); x += 0.01 {
		s.AddDouble(x)
		s.SubDouble(x)
	}
}

func BenchmarkVariance(b *testing.B) {
	var s Sum
	var q Squares
	for _, x := range []float64{12.34, 99.99, 1.01, 250.5, 17.76} {
		s.AddDouble(x)
		q.AddDouble(x)
	}
	for b.Loop() {
		Variance(&s, &q, 5, 0, false)
	}
}
