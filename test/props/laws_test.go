package props

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/test/oracle"
	"github.com/freshet-dev/freshet/test/shard"
)

const dayMs = 86_400_000

// worlds runs a property on so many random worlds, or on the one of SEED.
func worlds(t *testing.T, n uint64, property func(t *testing.T, rng *rand.Rand, k kind)) {
	first := uint64(1)
	if text := os.Getenv("WORLDS"); text != "" {
		n, _ = strconv.ParseUint(text, 10, 64)
	}
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		n = 1
	}
	for seed := first; seed < first+n; seed++ {
		k := kinds[seed%uint64(len(kinds))]
		t.Run(fmt.Sprintf("%s, SEED=%d", k.name, seed), func(t *testing.T) {
			t.Parallel()
			property(t, rand.New(rand.NewPCG(seed, 0)), k)
		})
	}
}

// dealt are fetches of 1 to most records.
func dealt(rng *rand.Rand, most int) func() int { return func() int { return 1 + rng.IntN(most) } }

// withHistory is the same world under another history mode.
func (w *world) withHistory(t testing.TB, mode string) *world {
	c := *w
	if c.definition = bytes.Replace(w.definition, []byte("history: rows"), []byte("history: "+mode), 1); bytes.Equal(c.definition, w.definition) {
		c.definition = bytes.Replace(w.definition, []byte("source:\n"), []byte("source:\n  history: "+mode+"\n"), 1)
	}
	c.load(t)
	return &c
}

func ideal(t testing.TB, h *oracle.History) (rows []oracle.Row) {
	t.Helper()
	err := h.Rows(func(r *oracle.Row) error { rows = append(rows, *r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// backfill are rows as the log tells them where the records before an offset were history: what works off ticks before the first live record
// is live.
func backfill(rows []oracle.Row, history int) []oracle.Row {
	rows = slices.Clone(rows)
	for i, r := range rows {
		if r.Offset < int64(history)-1 || r.Offset == int64(history)-1 && r.Cause != oracle.CauseDecay {
			rows[i].Cause = "backfill"
		}
	}
	return byEntity(rows)
}

func byEntity(rows []oracle.Row) []oracle.Row {
	slices.SortStableFunc(rows, func(a, b oracle.Row) int {
		return cmp.Or(strings.Compare(a.Entity, b.Entity), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.AsOf, b.AsOf))
	})
	return rows
}

// lastOfDays keeps each entity's last row of each UTC day, and the one with which a life of it ends: its state goes then, and what comes later
// on that day is a new one.
func lastOfDays(h *oracle.History, rows []oracle.Row) (kept []oracle.Row) {
	for i, r := range rows {
		if i+1 == len(rows) || rows[i+1].Entity != r.Entity || rows[i+1].AsOf/dayMs != r.AsOf/dayMs || gone(h, r, h.Verdicts[rows[i+1].Offset].Clock) {
			kept = append(kept, r)
		}
	}
	return kept
}

// gone reports whether the state of an entity that was last told of by r has been deleted by a stream clock.
func gone(h *oracle.History, r oracle.Row, clock int64) bool {
	newest := int64(0)
	for i, v := range h.Verdicts {
		if v.Accepted() && v.Entity == r.Entity && h.Records[i].Offset <= r.Offset {
			newest = max(newest, v.Time)
		}
	}
	return r.Last && newest+h.Group.Horizon <= clock
}

// lastOfLiving keeps the last row of each entity that has state in the end.
func lastOfLiving(h *oracle.History, rows []oracle.Row) (kept []oracle.Row) {
	for i, r := range rows {
		if i+1 < len(rows) && rows[i+1].Entity == r.Entity || gone(h, r, h.Verdicts[len(h.Verdicts)-1].Clock) {
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// readLog returns the log of a trip as the oracle's rows, and checks that available_at rises with the version.
func (tr *trip) readLog(g *shard.Group) []oracle.Row {
	tr.t.Helper()
	log := g.Log(tr.t, tr.dir)
	slices.SortFunc(log, func(a, b sink.Row) int {
		return cmp.Or(bytes.Compare(a.Entity, b.Entity), a.Version.Compare(b.Version))
	})
	var rows []oracle.Row
	for i := range log {
		rows = append(rows, g.Ideal(&log[i]))
		if i > 0 && bytes.Equal(log[i].Entity, log[i-1].Entity) && log[i].AvailableAt <= log[i-1].AvailableAt {
			tr.t.Fatalf("%s: available_at does not rise: %d at %v, %d at %v", log[i].Entity, log[i-1].AvailableAt, log[i-1].Version, log[i].AvailableAt, log[i].Version)
		}
	}
	return rows
}

func TestRowsAreTheOracles(t *testing.T) {
	worlds(t, 6, func(t *testing.T, rng *rand.Rand, k kind) {
		w := newWorld(t, rng, k, 50+rng.IntN(250), traits{history: "rows"})
		h := w.admit(t)
		want := ideal(t, h)
		reasons := map[string]int{}
		for _, v := range h.Verdicts {
			reasons[v.Reason]++
		}
		var first []string
		for i, x := range []way{
			{fetch: dealt(rng, 5000), cache: 16 << 20, every: time.Hour},
			{fetch: dealt(rng, 1), cache: 0, every: time.Hour},
			{fetch: dealt(rng, 60), cache: rng.Int64N(4000), every: time.Duration(1+rng.IntN(200)) * time.Millisecond, breaks: 1 + rng.IntN(3)},
			{fetch: dealt(rng, 30), cache: rng.Int64N(4000), every: time.Duration(1+rng.IntN(50)) * time.Millisecond, breaks: 1 + rng.IntN(4), crashes: true},
		} {
			x.rng = rng
			tr := w.run(t, x, func(from int64, rows []oracle.Row) {
				part := want[firstFrom(want, from):]
				if diff := difference(rows, part[:min(len(rows), len(part))]); diff != "" {
					t.Fatalf("%v: rows from offset %d on: %s\n%s", x, from, diff, w.definition)
				}
			})
			if x.breaks == 0 {
				if diff := difference(tr.rows, want); diff != "" {
					t.Fatalf("%v: %s\n%s", x, diff, w.definition)
				}
				if fmt.Sprint(tr.counts) != fmt.Sprint(reasons) {
					t.Errorf("%v: %v, not %v", x, tr.counts, reasons)
				}
			}
			if diff := difference(tr.readLog(w.group), backfill(want, len(w.records))); diff != "" {
				t.Fatalf("%v: log: %s\n%s", x, diff, w.definition)
			}
			dump := w.group.Dump(t, tr.dir)
			if i == 0 {
				first = dump
			}
			same(t, x, dump, first)
		}
		for _, mode := range []string{"daily", "none"} {
			w := w.withHistory(t, mode)
			x := way{rng: rng, fetch: dealt(rng, 60), cache: rng.Int64N(4000), every: time.Duration(1+rng.IntN(100)) * time.Millisecond, breaks: rng.IntN(4), crashes: true}
			tr := w.run(t, x, func(int64, []oracle.Row) {})
			logged := lastOfDays(h, backfill(want, len(w.records)))
			if mode == "none" {
				logged = lastOfLiving(h, backfill(want, len(w.records)))
			}
			if diff := difference(tr.readLog(w.group), logged); diff != "" {
				t.Fatalf("%s: %v: log: %s\n%s", mode, x, diff, w.definition)
			}
			same(t, x, w.group.Dump(t, tr.dir), first)
		}
	})
}

// same complains where two stores differ.
func same(t testing.TB, x way, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%v: the state differs, first in\n     %.600s, not\n     %.600s", x, strings.Join(got[min(i, len(got)):], "\n"), strings.Join(want[min(i, len(want)):], "\n"))
		}
	}
}
