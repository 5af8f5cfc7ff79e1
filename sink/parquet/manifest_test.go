package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/freshet-dev/freshet/sink"
)

var ctx = context.Background()

func smallManifest(seq int64) *Manifest {
	return &Manifest{
		Store: "5f0c", Group: "shoppers", GroupVersion: 2, DefinitionHash: "000000000000feed", Topic: "purchases", TopicID: "AAAA", Partition: 3,
		Partitions: 8, Seq: seq, Epoch: 7, Owner: "host-1", Generation: 9, Position: 5100, Clock: day, LastTick: day - 10_000,
		AvailableClock: day * 1000, Bootstrap: Bootstrap{Start: day - 1, EndOffset: 100, History: "rows", Done: true},
		State:   []StateFile{{Name: "state/ab", SHA256: "ab", Bytes: 12}},
		Segment: SegmentRef{Name: "segment-1", Length: 42, SHA256: "cd"}, CreatedAt: "2025-10-15T00:00:00Z",
	}
}

func partNamed(name string) Part {
	return Part{Name: name, Date: "2025-10-15", Rows: 1, Bytes: 2, SHA256: "ef", OffsetStart: 3, OffsetEnd: 4, TimeMin: 5, TimeMax: 6, Format: PartFormat}
}

func TestManifestGolden(t *testing.T) {
	m := smallManifest(12)
	m.PartsAdded = []Part{partNamed("log/a.parquet")}
	b := m.Encode()
	path := filepath.Join("testdata", "manifest.json")
	if os.Getenv("FRESHET_UPDATE") != "" {
		check(t, os.WriteFile(path, b, 0o644))
	}
	if want := must(os.ReadFile(path))(t); !bytes.Equal(b, want) {
		t.Errorf("\n got %swant %s", b, want)
	}
	got := must(DecodeManifest(b))(t)
	if !reflect.DeepEqual(got, m) {
		t.Errorf("\n got %+v\nwant %+v", got, m)
	}
	if name := ManifestName("shoppers", 2, "purchases", 3, 12); name != "manifest/shoppers/v2/purchases/3/0000000012.json" {
		t.Errorf("name %s", name)
	}
}

func TestManifestDamagedAnywhere(t *testing.T) {
	b := smallManifest(1).Encode()
	for i := range b {
		if _, err := DecodeManifest(b[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at byte %d: %v", i, err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << bit
			if _, err := DecodeManifest(flipped); err == nil {
				t.Fatalf("bit %d of byte %d flipped: %q is taken", bit, i, flipped)
			}
		}
	}
	later := bytes.Replace(b, []byte(`"format":1`), []byte(`"format":2`), 1)
	if _, err := DecodeManifest(later); err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a later format: %v", err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add(smallManifest(1).Encode())
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		if again, err := DecodeManifest(m.Encode()); err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}

func TestPublishIsWonOnce(t *testing.T) {
	b := sink.NewDir(sink.OS, t.TempDir())
	if _, err := Latest(ctx, b, "shoppers", 2, "purchases", 3); !errors.Is(err, sink.ErrNotExist) {
		t.Errorf("latest of none: %v", err)
	}
	for seq := range int64(5) {
		errs := make([]error, 32)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				m := smallManifest(seq)
				m.Owner = fmt.Sprint(i)
				errs[i] = PublishManifest(ctx, b, m)
			})
		}
		all.Wait()
		m := must(Latest(ctx, b, "shoppers", 2, "purchases", 3))(t)
		winners := 0
		for i, err := range errs {
			switch {
			case err == nil && m.Owner == fmt.Sprint(i):
				winners++
			case !errors.Is(err, ErrFenced):
				t.Errorf("owner %d beside the winner %s: %v", i, m.Owner, err)
			}
		}
		if winners != 1 || m.Seq != seq {
			t.Errorf("%d winners of %d, the latest is %d", winners, seq, m.Seq)
		}
		check(t, PublishManifest(ctx, b, m)) // again, after an unknown outcome
	}
}

// chain publishes manifests from..to, each with a part of its own; those at multiples of 10 replace the one before by another.
func chain(t *testing.T, b sink.Bucket, from, to int64) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		m := smallManifest(seq)
		m.PartsAdded = []Part{partNamed(fmt.Sprintf("log/%04d", seq))}
		if seq%10 == 0 && seq > 0 {
			m.PartsReplaced = []Part{partNamed(fmt.Sprintf("log/%04d", seq-1))}
		}
		if seq > 0 && seq%FullEvery == 0 {
			m.Parts = must(ShardParts(ctx, b, m))(t)
			m.PartsFull = true
		}
		check(t, PublishManifest(ctx, b, m))
	}
}

func namesOf(parts []Part) (names []string) {
	for _, p := range parts {
		names = append(names, p.Name)
	}
	return names
}

func TestPartsFollowTheChain(t *testing.T) {
	b := sink.NewDir(sink.OS, t.TempDir())
	chain(t, b, 1, 9)
	if got := len(must(Parts(ctx, b, "shoppers", 2))(t)); got != 9 {
		t.Errorf("%d parts of 9", got)
	}
	chain(t, b, 10, 215)
	other := smallManifest(0)
	other.Partition, other.PartsAdded = 10, []Part{partNamed("log/other")}
	check(t, PublishManifest(ctx, b, other))

	before := namesOf(must(Parts(ctx, b, "shoppers", 2))(t))
	if len(before) != 215-21+1 || before[8] != "log/0010" || before[len(before)-1] != "log/other" {
		t.Fatalf("%d parts: %v", len(before), before)
	}
	latest := must(Latest(ctx, b, "shoppers", 2, "purchases", 3))(t)
	check(t, Prune(ctx, b, latest, 5))
	left := must(b.List(ctx, "manifest/shoppers/v2/purchases/3/", ""))(t)
	if len(left) != 21 || !strings.HasSuffix(left[0], "/0000000195.json") {
		t.Errorf("%d manifests left, from %s", len(left), left[0])
	}
	if after := namesOf(must(Parts(ctx, b, "shoppers", 2))(t)); !reflect.DeepEqual(after, before) {
		t.Errorf("pruning lost parts: %d of %d", len(after), len(before))
	}
	// An owner that slept all along finds its number free, and must not believe it.
	if err := PublishManifest(ctx, b, smallManifest(7)); !errors.Is(err, ErrFenced) {
		t.Errorf("publishing where the chain was pruned: %v", err)
	}
	if after := namesOf(must(Parts(ctx, b, "shoppers", 2))(t)); !reflect.DeepEqual(after, before) {
		t.Errorf("a fenced manifest changed the parts")
	}
	check(t, b.Delete(ctx, latest.name(210)))
	if _, err := Parts(ctx, b, "shoppers", 2); !errors.Is(err, sink.ErrNotExist) {
		t.Errorf("a hole in the chain: %v", err)
	}
}

func TestPruneNeedsAFullList(t *testing.T) {
	b := sink.NewDir(sink.OS, t.TempDir())
	for seq := int64(1); seq <= 105; seq++ { // the 100th is not full
		check(t, PublishManifest(ctx, b, smallManifest(seq)))
	}
	check(t, Prune(ctx, b, smallManifest(105), 0))
	if left := must(b.List(ctx, "manifest/", ""))(t); len(left) != 105 {
		t.Errorf("%d manifests left", len(left))
	}
}

func TestAManifestUnderAnotherName(t *testing.T) {
	b := sink.NewDir(sink.OS, t.TempDir())
	check(t, b.PutIfAbsent(ctx, smallManifest(2).name(2), smallManifest(1).Encode()))
	if _, err := Latest(ctx, b, "shoppers", 2, "purchases", 3); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}
