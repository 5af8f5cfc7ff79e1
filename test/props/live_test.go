package props

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/test/oracle"
)

func TestLiveRowsAreTheOracles(t *testing.T) {
	worlds(t, 6, func(t *testing.T, rng *rand.Rand, k kind) {
		w := newWorld(t, rng, k, 50+rng.IntN(200), traits{history: "rows"})
		h := w.admit(t)
		x := way{rng: rng, fetch: dealt(rng, 40), every: time.Hour, live: 1 + rng.IntN(len(w.records)), wall: true}
		history := len(w.records) - x.live
		for after := history; after <= len(w.records); after += rng.IntN(30) {
			clock := h.Verdicts[max(0, after-1)].Clock
			m := move{after, max(0, clock) + rng.Int64N(2*k.scale) - k.scale/2}
			if n := len(x.moves); n > 0 {
				m.to = max(m.to, x.moves[n-1].to)
			}
			if rng.IntN(20) == 0 {
				m.to += w.judge.Horizon
			}
			x.moves = append(x.moves, m)
			h.Advance(m.after, m.to)
		}
		want := ideal(t, h)
		var first []string
		for i := range 3 {
			x.breaks, x.cache = i, rng.Int64N(10000)
			tr := w.run(t, x, func(int64, []oracle.Row) {})
			if diff := difference(tr.rows, want); i == 0 && diff != "" {
				t.Fatalf("%v: %s\n%s", x, diff, w.definition)
			}
			if diff := difference(tr.readLog(w.group), backfill(want, history)); diff != "" {
				t.Fatalf("%v: log: %s\n%s", x, diff, w.definition)
			}
			dump := w.group.Dump(t, tr.dir)
			if i == 0 {
				first = dump
			}
			same(t, x, dump, first)
			for _, r := range lastOfLiving(h, byEntity(slices.Clone(want))) {
				got, ok := tr.online.Row(r.Entity)
				if g := w.group.Ideal(&got); !ok || g.Offset != r.Offset || g.AsOf != r.AsOf || !slices.Equal(g.Values, r.Values) {
					t.Fatalf("%v: the online store has\n     %+v, not\n     %+v", x, g, r)
				}
			}
		}
	})
}

// TestOrderDoesNotMatter shuffles accepted events that lie within one horizon, and sends some of them again: in the end, once the clock has
// moved on, every entity has the same values.
func TestOrderDoesNotMatter(t *testing.T) {
	worlds(t, 6, func(t *testing.T, rng *rand.Rand, k kind) {
		w := newWorld(t, rng, k, 150, traits{history: "rows", reordering: true})
		h := w.admit(t)
		newest := h.Verdicts[len(h.Verdicts)-1].Clock
		var kept []oracle.Record
		for i, v := range h.Verdicts {
			if v.Accepted() && v.Time > newest-w.judge.Horizon {
				kept = append(kept, w.records[i])
			}
		}
		end := newest + rng.Int64N(k.scale)
		end -= end % w.judge.Tick
		if end < newest {
			end += w.judge.Tick
		}
		if len(kept) == 0 {
			t.Skip("nothing was accepted within the last horizon")
		}
		var want map[string][]oracle.Value
		for i := range 4 {
			records := slices.Clone(kept)
			if i > 0 {
				for range 20 {
					records = append(records, pick(rng, kept))
				}
				rng.Shuffle(len(records), func(a, b int) { records[a], records[b] = records[b], records[a] })
			}
			for j := range records {
				records[j].Offset = int64(j)
			}
			w.records = records
			if i == 0 {
				want = w.admit(t).Final(end)
			}
			x := way{rng: rng, fetch: dealt(rng, 40), every: time.Hour, cache: rng.Int64N(10000), live: len(records), wall: true, moves: []move{{len(records), end}}}
			tr := w.run(t, x, func(int64, []oracle.Row) {})
			for entity, values := range want {
				got, ok := tr.online.Row(entity)
				if g := w.group.Ideal(&got); !ok || !slices.Equal(g.Values, values) {
					t.Fatalf("order %d: %s has %v, not %v\n%s", i, entity, g.Values, values, strings.TrimSpace(string(w.definition)))
				}
			}
		}
	})
}
