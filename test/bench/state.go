package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/schemas"
	"github.com/freshet-dev/freshet/schemas/feature"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/state/window"
	"github.com/freshet-dev/freshet/test/bench/gen"
)

// peers is what other engines were measured with; %s is room for an id.
const peers = `
group: peers
version: 1
entity: {name: user, key: [user]}
source: {topic: events, schema: e.avsc, time: ts, unit: ms, partitioner: any, key_format: any%s}
freshness: 10s
windows: [1d, 7d, 30d, 90d]
features:
  - {name: n, agg: count}
  - {name: total, agg: sum, of: amount}
  - {name: mean, agg: avg, of: amount}
  - {name: least, agg: min, of: amount}
  - {name: most, agg: max, of: amount}
  - {name: spread, agg: stddev, of: amount}
  - {name: items, agg: sum, of: quantity}
  - {name: products, agg: count_distinct, of: product}
`

const peersSchema = `{"type":"record","name":"E","fields":[{"name":"eid","type":"string"},{"name":"user","type":"long"},{"name":"ts","type":"long"},
 {"name":"amount","type":"double"},{"name":"product","type":"long"},{"name":"quantity","type":"int"}]}`

// stateBytes measures what an event takes in state, with and without its identity.
func stateBytes(b *bench) (rows []row, err error) {
	users := 20_000
	if b.quick {
		users = 4000
	}
	for _, id := range []string{"", ", id: eid"} {
		plan, problems := feature.Parse("peers.yaml", fmt.Appendf(nil, peers, id), func(string) ([]byte, error) { return []byte(peersSchema), nil })
		if err := problems.Err(); err != nil {
			return nil, err
		}
		what := "without id"
		if id != "" {
			what = "with id"
		}
		for _, live := range []int{5, 20, 100} {
			record, disk, err := stored(plan, users, live, b.dir)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row{fmt.Sprintf("state, peers' columns, %s, %d events an entity in its 90 days", what, live), fmt.Sprintf("%.1f B an event", record),
				fmt.Sprintf("%.1f B on disk, key and all, compressed", disk)})
		}
	}
	return rows, nil
}

// stored returns the bytes an event takes in records and on disk, where so many users have so many events each, on average, in the horizon.
func stored(plan *feature.Plan, users, live int, dir string) (record, disk float64, err error) {
	layout, err := window.NewLayout(plan)
	if err != nil {
		return 0, 0, err
	}
	entities := make([]*window.Entity, users+1)
	events, n, clock := 0, int64(0), int64(0)
	gen.Generate(gen.Uniform, int64(2*live*users), users, func(user, ts int64, amount float64, product int64, quantity int32) {
		if n++; entities[user] == nil {
			entities[user] = layout.NewEntity()
		}
		clock = max(clock, ts)
		ev := window.Event{Time: ts, ID: uint64(n), Mask: 1} // without an id the offset is the identity
		if plan.Source.IDColumn >= 0 {
			ev.ID *= 0x9e3779b97f4a7c15 // a hash of the id
		}
		for _, c := range plan.Stored {
			switch plan.Columns[c].Path {
			case "amount":
				ev.Columns = append(ev.Columns, schemas.DoubleValue(amount))
			case "product":
				ev.Columns = append(ev.Columns, schemas.IntValue(product))
			case "quantity":
				ev.Columns = append(ev.Columns, schemas.IntValue(int64(quantity)))
			}
		}
		entities[user].Insert(layout, &ev, clock)
		if ts > gen.T0+gen.Span-plan.Horizon {
			events++
		}
	})
	res := state.NewResources(state.Default(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	defer res.Close()
	if dir, err = os.MkdirTemp(dir, "state"); err != nil {
		return 0, 0, err
	}
	store, err := state.Open(dir+"/live", res, nil)
	if err != nil {
		return 0, 0, err
	}
	defer store.Close()
	batch, total := store.NewBatch(), 0
	defer batch.Close()
	for user, e := range entities {
		if e == nil {
			continue
		}
		e.Trim(layout, clock)
		rec := e.Append(layout, nil)
		total += len(rec)
		batch.Set(fmt.Append(nil, user), rec)
		e.DirtyChunks(func(no uint32, data []byte) { // of an entity that is large
			if data != nil {
				total += len(data)
				batch.SetChunk(fmt.Append(nil, user), no, data)
			}
		})
	}
	if err := batch.Commit(); err != nil {
		return 0, 0, err
	}
	if err := store.Checkpoint(dir + "/checkpoint"); err != nil {
		return 0, 0, err
	}
	return float64(total) / float64(events), float64(store.DiskBytes()) / float64(events), nil
}
