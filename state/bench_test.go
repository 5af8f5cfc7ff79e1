package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

const (
	benchEntities = 1_000_000
	benchBatch    = 4096
	benchRecord   = 150
)

func benchKey(i int) []byte { return fmt.Appendf(nil, "user-%08d", i) }

// filled returns a store of a million records, compacted as it is after a while.
func filled(b *testing.B) *Store {
	s := open(b, b.TempDir()+"/db", resources(b, Default()), nil)
	r := rand.NewChaCha8([32]byte{1})
	record := make([]byte, benchRecord)
	for i := 0; i < benchEntities; i += benchBatch {
		batch := s.NewBatch()
		for j := i; j < min(i+benchBatch, benchEntities); j++ {
			for k := 0; k+8 <= len(record); k += 8 { // half of the bytes are noise
				binary.LittleEndian.PutUint32(record[k:], uint32(r.Uint64()))
			}
			batch.Set(benchKey(j), record)
		}
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
		batch.Close()
	}
	if err := s.Checkpoint(b.TempDir() + "/checkpoint"); err != nil {
		b.Fatal(err)
	}
	return s
}

func randomKeys(r *rand.Rand) [][]byte {
	chosen := map[int]struct{}{}
	for len(chosen) < benchBatch {
		chosen[r.IntN(benchEntities)] = struct{}{}
	}
	keys := make([][]byte, 0, benchBatch)
	for i := range chosen {
		keys = append(keys, benchKey(i))
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

// BenchmarkReadModifyWrite reports ns per entity of loading 4,096 random of a million records of 150 bytes and writing them back: as the
// store does it, and with one Get and Set after the other.
func BenchmarkReadModifyWrite(b *testing.B) {
	s := filled(b)
	r := rand.New(rand.NewPCG(1, 1))
	run := func(name string, step func(batch *Batch, keys [][]byte) error) {
		b.Run(name, func(b *testing.B) {
			batch := s.NewBatch()
			defer batch.Close()
			for b.Loop() {
				b.StopTimer()
				keys := randomKeys(r)
				b.StartTimer()
				batch.Reset()
				if err := errors.Join(step(batch, keys), batch.Commit()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatch, "ns/entity")
			m := s.db.Metrics()
			b.ReportMetric(float64(m.Levels[0].Sublevels), "L0runs")
		})
	}
	record := make([]byte, 0, benchRecord)
	load := func(batch *Batch, keys [][]byte) error {
		return s.Load(keys, func(i int, old []byte) error {
			record = append(record[:0], old...)
			record[7]++
			batch.Set(keys[i], record)
			return nil
		})
	}
	get := func(batch *Batch, keys [][]byte) error {
		for _, k := range keys {
			old, closer, err := s.db.Get(appendEntityKey(nil, k))
			if err != nil {
				return err
			}
			record = append(record[:0], old...)
			record[7]++
			batch.Set(k, record)
			if err := closer.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	seek := func(batch *Batch, keys [][]byte) error {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{1}, UpperBound: []byte{2}})
		if err != nil {
			return err
		}
		var kb []byte
		for _, k := range keys {
			kb = appendEntityKey(kb[:0], k)
			if !it.SeekGE(kb) {
				return errors.New("gone")
			}
			record = append(record[:0], it.Value()...)
			record[7]++
			batch.Set(k, record)
		}
		return it.Close()
	}
	run("Load", load)
	run("Get", get)
	run("SeekGE", seek)
	run("LoadAgain", load)
}
