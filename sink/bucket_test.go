package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var ctx = context.Background()

func TestOneOfManyPutsWins(t *testing.T) {
	root := t.TempDir()
	for round := range 20 {
		name := fmt.Sprintf("manifest/g/v1/t/0/%010d.json", round)
		errs := make([]error, 32)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { // each its own process, as far as they know of each other
				errs[i] = NewDir(OS, root).PutIfAbsent(ctx, name, []byte{byte(i)})
			})
		}
		all.Wait()
		winner := slices.Index(errs, nil)
		if winner < 0 {
			t.Fatal(errs)
		}
		for i, err := range errs {
			if i != winner && !errors.Is(err, ErrExists) {
				t.Errorf("caller %d beside the winner %d: %v", i, winner, err)
			}
		}
		if b, err := NewDir(OS, root).Get(ctx, name); err != nil || len(b) != 1 || b[0] != byte(winner) {
			t.Errorf("it holds %v, %v, not what caller %d put", b, err, winner)
		}
	}
	if names, err := OS.List(filepath.Join(root, tempDir)); len(names) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// TestPutSurvivesPowerLoss cuts the power after a put has returned, and looks for the object in what is left: nothing but what was synced,
// or any of the rest too.
func TestPutSurvivesPowerLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 40 {
		mem := vfs.NewCrashableMem()
		if err := mem.MkdirAll("/local", 0o755); err != nil {
			t.Fatal(err)
		}
		d := NewDir(memFS{mem}, "/data/store")
		put := map[string]string{}
		for i := range 5 {
			name := fmt.Sprintf("manifest/%d/%d", r.IntN(3), i)
			if err := d.PutIfAbsent(ctx, name, []byte(name)); err != nil {
				t.Fatal(err)
			}
			put[name] = name
			f, err := memFS{mem}.Create(fmt.Sprintf("/local/%d", i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte(name)); err != nil {
				t.Fatal(err)
			}
			staged, public := "state/"+name, "log/"+name
			if err := d.PutFile(ctx, staged, fmt.Sprintf("/local/%d", i)); err != nil {
				t.Fatal(err)
			}
			if err := d.Publish(ctx, staged, public); err != nil {
				t.Fatal(err)
			}
			put[staged], put[public] = name, name
		}
		after := NewDir(memFS{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: round % 4 * 33, RNG: r})}, "/data/store")
		for name, want := range put {
			if b, err := after.Get(ctx, name); err != nil || string(b) != want {
				t.Fatalf("round %d: %s holds %q, %v", round, name, b, err)
			}
		}
		names, err := after.List(ctx, "", "")
		if err != nil || len(names) != len(put) {
			t.Fatalf("round %d: %v, %v", round, names, err)
		}
	}
}

func TestList(t *testing.T) {
	for _, fs := range []FS{OS, memFS{vfs.NewMem()}} {
		root := "/store"
		if fs == OS {
			root = t.TempDir()
		}
		d := NewDir(fs, root)
		if names, err := d.List(ctx, "", ""); len(names) > 0 || err != nil {
			t.Errorf("%v, %v before anything was put", names, err)
		}
		for _, name := range []string{"a/b/2", "a/b/10", "a/b.txt", "a/bc", "ab", "b"} {
			if err := d.PutIfAbsent(ctx, name, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			prefix, after string
			want          []string
		}{
			{"", "", []string{"a/b.txt", "a/b/10", "a/b/2", "a/bc", "ab", "b"}},
			{"a", "", []string{"a/b.txt", "a/b/10", "a/b/2", "a/bc", "ab"}},
			{"a/", "a/b/10", []string{"a/b/2", "a/bc"}},
			{"a/b", "", []string{"a/b.txt", "a/b/10", "a/b/2", "a/bc"}},
			{"a/b/", "a/b/2", nil},
			{"c/", "", nil},
		} {
			if names, err := d.List(ctx, c.prefix, c.after); err != nil || !slices.Equal(names, c.want) {
				t.Errorf("%q after %q: %v, %v, want %v", c.prefix, c.after, names, err, c.want)
			}
		}
	}
}

func TestObjectsMoveByFile(t *testing.T) {
	dir := t.TempDir()
	d := NewDir(OS, filepath.Join(dir, "store"))
	local, back := filepath.Join(dir, "local"), filepath.Join(dir, "back")
	for _, name := range []string{local, back} {
		if err := os.WriteFile(name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // each is idempotent
		if err := d.PutFile(ctx, "staged", local); err != nil {
			t.Fatal(err)
		}
		if err := d.Publish(ctx, "staged", "log/part"); err != nil {
			t.Fatal(err)
		}
		if err := d.GetFile(ctx, "log/part", back); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Delete(ctx, "staged"); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(ctx, "staged", "log/part"); err != nil {
		t.Errorf("publishing again what was published, its source gone: %v", err)
	}
	if b, err := os.ReadFile(back); err != nil || string(b) != local {
		t.Errorf("%q, %v", b, err)
	}
	if err := d.Delete(ctx, "staged"); err != nil {
		t.Errorf("deleting twice: %v", err)
	}
	for what, err := range map[string]error{"Get": second(d.Get(ctx, "staged")), "GetFile": d.GetFile(ctx, "staged", back),
		"Publish": d.Publish(ctx, "staged", "log/other")} {
		if !errors.Is(err, ErrNotExist) {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestNamesStayInside(t *testing.T) {
	d := NewDir(OS, t.TempDir())
	for _, name := range []string{"", ".", "..", "../a", "/a", "a//b", "a/../b", "a/", tempDir, tempDir + "/a"} {
		if err := d.PutIfAbsent(ctx, name, nil); err == nil || errors.Is(err, ErrExists) {
			t.Errorf("put %q: %v", name, err)
		}
	}
}

func TestDirectoriesMayVanish(t *testing.T) {
	root := t.TempDir()
	d := NewDir(OS, root)
	if err := d.PutIfAbsent(ctx, "a/b", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "a")); err != nil {
		t.Fatal(err)
	}
	if err := d.PutIfAbsent(ctx, "a/b", nil); err != nil {
		t.Error(err)
	}
}

func TestOldTemporaryFilesGo(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"1000-OLD", "99999999999-NEW"} {
		if err := OS.MkdirAll(filepath.Join(root, tempDir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, tempDir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := NewDir(OS, root).PutIfAbsent(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	if names, err := OS.List(filepath.Join(root, tempDir)); err != nil || !slices.Equal(names, []string{"99999999999-NEW"}) {
		t.Errorf("left: %v, %v", names, err)
	}
}
