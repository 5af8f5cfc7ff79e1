package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/freshet-dev/freshet/processor"
	"github.com/freshet-dev/freshet/processor/kafka"
	"github.com/freshet-dev/freshet/sink"
	"github.com/freshet-dev/freshet/state"
	"github.com/freshet-dev/freshet/test/oracle"
)

// judge keeps the events and the rows of some users, to hold them to the oracle when the measurement is over.
type judge struct {
	spec    sink.Spec
	want    int // users to compare
	users   map[string]bool
	records [][]oracle.Record // by shard; the feeding goroutine's
	clocks  []int64           // by shard, ms; the feeding goroutine's

	mu   sync.Mutex
	rows map[string][]oracle.Row // by user; guarded by mu
}

// maxJudged is the most events of a user that the oracle, which works every row out from all events, is asked for.
const maxJudged = 2000

// newJudge samples users evenly, four times as many as are to be compared: under Zipf most have no event.
func newJudge(spec sink.Spec, n, users, shards int) *judge {
	j := &judge{spec: spec, want: n, users: map[string]bool{}, records: make([][]oracle.Record, shards), clocks: make([]int64, shards), rows: map[string][]oracle.Row{}}
	n = min(4*n, users)
	for i := range n {
		j.users[strconv.Itoa(i*(users/n))] = true
	}
	return j
}

// event sees every record before it is offered.
func (j *judge) event(p int, user int64, r kafka.Record) {
	var text [20]byte
	if j.users[string(strconv.AppendInt(text[:0], user, 10))] {
		j.records[p] = append(j.records[p], oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp, Value: r.Value, Partitions: 1, Clock: j.clocks[p]})
	}
	j.clocks[p] = max(j.clocks[p], r.Timestamp)
}

// row sees every row; those of decay depend on events that the judge does not keep.
func (j *judge) row(r *sink.Row) {
	if r.Cause == sink.Decay || !j.users[string(r.Entity)] {
		return
	}
	row := oracle.Row{Offset: r.Version.Offset, AsOf: r.Version.AsOf, ValidUntil: r.ValidUntil, Values: make([]oracle.Value, len(r.Values))}
	for i, v := range r.Values {
		if row.Values[i].Null = v.IsNull(); !v.IsNull() {
			row.Values[i].Text = string(sink.AppendText(nil, v, j.spec.Features[i].Type))
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rows[string(r.Entity)] = append(j.rows[string(r.Entity)], row)
}

// compare returns how many rows it compared, of how many users, and the first that is not the oracle's.
func (j *judge) compare() (rows, users int, err error) {
	g, err := oracle.Load([]byte(definition), []byte(schema))
	if err != nil {
		return 0, 0, err
	}
	for _, records := range j.records {
		h, err := g.Admit(records, func(int32) []byte { return []byte(schema) })
		if err != nil {
			return 0, 0, err
		}
		for _, user := range h.Entities() {
			got, n := j.rows[user], 0
			if len(got) > maxJudged || users == j.want {
				continue
			}
			users++
			err := h.RowsOf(user, func(want *oracle.Row) error {
				if want.Cause == oracle.CauseDecay {
					return nil
				}
				if n == len(got) {
					return fmt.Errorf("user %s has %d rows only", user, n)
				}
				r := &got[n]
				n++
				if r.Offset != want.Offset || r.AsOf != want.AsOf || r.ValidUntil != want.ValidUntil || !slices.Equal(r.Values, want.Values) {
					return fmt.Errorf("user %s: %+v; the oracle says %+v", user, *r, *want)
				}
				return nil
			})
			if err == nil && n < len(got) {
				err = fmt.Errorf("user %s has %d rows too many", user, len(got)-n)
			}
			if err != nil {
				return rows, users, err
			}
			rows += n
		}
	}
	return rows, users, nil
}

// restored starts the shards again from their last checkpoints, beside the stores that they left, and compares the two, position and all.
func restored(deps processor.Deps, src *source, group *processor.Group, tps []kafka.TP) error {
	live, was := filepath.Join(deps.Config.Data, "live"), filepath.Join(deps.Config.Data, "was")
	if err := os.Rename(live, was); err != nil {
		return err
	}
	src.mu.Lock()
	src.added = 0
	src.mu.Unlock()
	ctx := context.Background()
	group.Assign(ctx, tps)
	src.awaitShards(len(tps))
	group.Close(ctx)
	entities := 0
	for _, tp := range tps {
		shard := filepath.Join("peers", "v1", tp.Topic, strconv.Itoa(int(tp.Partition)))
		a, n, err := digest(deps, filepath.Join(was, shard))
		if err != nil {
			return err
		}
		b, _, err := digest(deps, filepath.Join(live, shard))
		if err != nil {
			return err
		}
		if a != b {
			return fmt.Errorf("%s: what the last checkpoint restored differs from what the shard held", shard)
		}
		entities += n
	}
	fmt.Printf("the last checkpoint restores the same %d entities, timers and positions\n", entities)
	return nil
}

// availableInMeta are the bytes of a shard's own record that hold the last available_at, which a restart may move.
const availableInMeta, availableInMetaEnd = 25, 33

// digest is of everything in a store.
func digest(deps processor.Deps, dir string) (sum uint64, entities int, err error) {
	st, err := deps.Open(dir)
	if err != nil {
		return 0, 0, err
	}
	h := xxhash.New()
	add := func(parts ...[]byte) {
		for _, p := range parts {
			h.Write(binary.AppendUvarint(nil, uint64(len(p))))
			h.Write(p)
		}
	}
	meta, err := st.Meta()
	if err == nil && len(meta) >= availableInMetaEnd {
		clear(meta[availableInMeta:availableInMetaEnd])
	}
	add(meta)
	err = errors.Join(err, st.Each(context.Background(), nil, func(entity, record []byte) error {
		entities++
		add(entity, record)
		return st.Chunks(entity, func(no uint32, data []byte) error { add(binary.AppendUvarint(nil, uint64(no)), data); return nil })
	}))
	for kind := range uint8(4) {
		err = errors.Join(err, timers(st, kind, add))
	}
	return h.Sum64(), entities, errors.Join(err, st.Close())
}

func timers(st *state.Store, kind uint8, add func(...[]byte)) error {
	return st.Timers(kind, math.MaxInt64, math.MaxInt, func(at int64, entity []byte) error {
		add([]byte{kind}, binary.AppendVarint(nil, at), entity)
		return nil
	})
}
