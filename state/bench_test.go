package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
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
			cpu := -cpuTime(b)
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
			b.ReportMetric(float64((cpu+cpuTime(b)).Nanoseconds())/float64(b.N)/benchBatch, "cpu-ns/entity")
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
	run("Load", load)
	run("Get", get)
}

// cpuTime is what the process has used so far, compactions included.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkManyStores reports what 1,280 stores with a little state each take to open again: seconds, and resident MiB of the process.
func BenchmarkManyStores(b *testing.B) {
	const stores = 1280
	cfg := Default()
	cfg.Stores = stores
	dir := b.TempDir()
	each := func(fill func(s *Store) error) {
		r := resources(b, cfg)
		all := make([]*Store, stores)
		began := time.Now()
		for i := range all {
			s, err := Open(fmt.Sprintf("%s/%d", dir, i), r, nil)
			if err == nil {
				err = fill(s)
			}
			if err != nil {
				b.Fatal(err)
			}
			all[i] = s
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/open")
		b.ReportMetric(residentMiB(b), "MiB")
		for _, s := range all {
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	record := make([]byte, benchRecord)
	batch := func(s *Store) error {
		w := s.NewBatch()
		defer w.Close()
		for i := range 200 {
			w.Set(benchKey(i), record)
		}
		return w.Commit()
	}
	each(func(s *Store) error { return errors.Join(batch(s), s.Checkpoint(s.dir+".checkpoint")) })
	b.ResetTimer()
	for b.Loop() {
		each(batch)
	}
}

func residentMiB(b *testing.B) float64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	var total, resident int
	if _, err := fmt.Sscan(string(data), &total, &resident); err != nil {
		b.Fatal(err)
	}
	return float64(resident*os.Getpagesize()) / (1 << 20)
}
