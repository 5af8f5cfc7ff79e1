package window

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// storedPlan has something of everything that is stored.
func storedPlan() *feature.Plan {
	p := &feature.Plan{Group: "g", Stored: []int{0, 1, 2, 3}, Horizon: 10 * day, Filters: make([]*feature.Program, 1), Source: feature.Source{IDColumn: 0}}
	for i, t := range kinds(schemas.Double, schemas.Int, schemas.String, schemas.Decimal) {
		p.Columns = append(p.Columns, feature.Column{Path: fmt.Sprint("c", i), Type: t, Nullable: true})
	}
	for i, f := range []feature.Feature{
		{Agg: feature.Sum, Column: 0, Window: 10 * day, Filter: -1},
		{Agg: feature.CountDistinct, Column: 1, Window: day, Filter: 0, MaxDistinct: 3},
		{Agg: feature.Stddev, Column: 0, Filter: -1},
		{Agg: feature.Max, Column: 1, Filter: -1},
		{Agg: feature.Last, Column: 2, Filter: 0},
		{Agg: feature.CountDistinct, Column: 2, Filter: -1, MaxDistinct: 2000},
		{Agg: feature.Sum, Column: 3, Window: day, Filter: -1},
	} {
		f.Name, f.ColumnType = fmt.Sprint("f", i), p.Columns[f.Column].Type
		p.Features = append(p.Features, f)
	}
	return p
}

func storedEvent(i int) *Event {
	ev := &Event{Time: 1_000*day + int64(i)*hour/8, ID: uint64(i) * 0x0123456789abcdef, Mask: 1 | uint64(i&1)<<1, Columns: []schemas.Value{
		schemas.DoubleValue(float64(i) + 0.25), schemas.IntValue(int64(-i)), schemas.StringValue(fmt.Appendf(nil, "text %d", i*i%301)), schemas.DecimalValue(-1, uint64(-i)),
	}}
	if i%3 == 0 {
		ev.Columns[0] = schemas.DoubleValue(1 / float64(i+1))
		ev.Columns[2] = schemas.Value{}
	}
	return ev
}

func storedEntity(l *Layout, n int) *Entity {
	e := l.NewEntity()
	for i := range n {
		ev := storedEvent(i)
		e.Insert(l, ev, ev.Time)
	}
	e.LastAsOf, e.LastOffset, e.Armed, e.ArmedKind = 1_000*day, 42, 1_001*day, 2
	return e
}

// TestGoldenBytes holds the format still: a change of it needs a new format version.
func TestGoldenBytes(t *testing.T) {
	l := layoutOf(t, storedPlan())
	for _, g := range []struct {
		n    int
		want string
	}{{0, "010081c0ddeec1022b80f8f697c202020001e12d0afa"}, {4, "010281c0ddeec1022b80f8f697c202020000002e04028701c004028f02b00704010000000000000000000107746578742031d0fbf8eec102efcdab8967452301020306746578742031067465787420340880c0ddeec10200000000000000000b900300010000000000000000ffffffffffffffffd0bb1befcdab89674523011ff40301000674657874203102d0bb1bde9b5713cf8a46020f840703010674657874203406d0bb1bcd69039d36d069031b64050a4b4c889b"}} {
		if got := hex.EncodeToString(storedEntity(l, g.n).Append(l, nil)); got != g.want {
			t.Errorf("%d events: the stored bytes changed: %q, were %q", g.n, got, g.want)
		}
	}
	var st store
	st.write(l, storedEntity(l, 1500))
	sum := sealed(bytes.Clone(st.record), 0)
	for no := range uint32(len(st.chunks)) {
		sum = sealed(append(sum, st.chunks[no]...), 0)
	}
	const want = "3 chunks, 0e8f138f"
	if got := fmt.Sprintf("%d chunks, %x", len(st.chunks), sum[len(sum)-4:]); got != want {
		t.Errorf("a large entity: the stored bytes changed: %q, were %q", got, want)
	}
}

// TestCorrupt changes each byte of a record and of its chunks, cuts them everywhere, and takes chunks away.
func TestCorrupt(t *testing.T) {
	l := layoutOf(t, storedPlan())
	for _, n := range []int{0, 5, 1500} {
		var st store
		st.write(l, storedEntity(l, n))
		if _, err := st.read(l); err != nil {
			t.Fatal(err)
		}
		pieces := map[string]*[]byte{"record": &st.record}
		for no := range st.chunks {
			data := st.chunks[no]
			pieces[fmt.Sprint("chunk ", no)] = &data
		}
		r := rand.New(rand.NewPCG(1, 1))
		for name, p := range pieces {
			whole := *p
			try := func(what string, bad []byte) {
				s := store{record: st.record, chunks: map[uint32][]byte{}}
				for no, data := range st.chunks {
					s.chunks[no] = data
				}
				var no uint32
				if _, err := fmt.Sscanf(name, "chunk %d", &no); err == nil {
					s.chunks[no] = bad
				} else {
					s.record = bad
				}
				if _, err := s.read(l); err == nil {
					t.Fatalf("%d events, %s with %s was taken", n, name, what)
				}
			}
			for range min(len(whole), 30) {
				at := r.IntN(len(whole))
				bad := bytes.Clone(whole)
				bad[at] ^= byte(1 + r.IntN(255))
				try(fmt.Sprintf("byte %d changed", at), bad)
				try(fmt.Sprintf("only %d bytes", at), whole[:at])
			}
		}
		for no, data := range st.chunks {
			delete(st.chunks, no)
			if _, err := st.read(l); err == nil {
				t.Fatalf("%d events without chunk %d were taken", n, no)
			}
			st.chunks[no] = data
		}
	}
}

// FuzzDecode: whatever the bytes under a right checksum, Decode returns, and what it takes works and is encoded to what decodes to the same.
func FuzzDecode(f *testing.F) {
	l, err := NewLayout(storedPlan())
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range []int{0, 1, 4, 100, 200, 600} {
		var st store
		st.write(l, storedEntity(l, n))
		f.Add(st.record[:len(st.record)-4], trimSum(st.chunks[0]), trimSum(st.chunks[1]))
	}
	f.Fuzz(func(t *testing.T, record, a, b []byte) {
		st := store{record: sealed(bytes.Clone(record), 0), chunks: map[uint32][]byte{}}
		for no, data := range [][]byte{a, b} {
			if len(data) > 0 {
				st.chunks[uint32(no)] = sealed(bytes.Clone(data), 0)
			}
		}
		e, err := st.read(l)
		if err != nil {
			return
		}
		first := e.Append(l, nil)
		st.record = first
		again, err := st.read(l)
		if err != nil || !bytes.Equal(again.Append(l, nil), first) {
			t.Fatalf("not the same again: %v", err)
		}
		var c Counters
		out := make([]schemas.Value, len(l.plan.Features))
		ev := storedEvent(3)
		e.Insert(l, ev, ev.Time)
		e.Evaluate(l, max(e.Newest(), ev.Time), out, &c)
		e.Trim(l, e.Newest()+l.horizon)
		e.Evaluate(l, max(e.Newest(), ev.Time)+l.horizon, out, &c)
	})
}

func trimSum(data []byte) []byte { return data[:max(0, len(data)-4)] }
