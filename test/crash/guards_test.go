package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// guard is one thing the commit protocol does, and what the program is without it: the same source with a few edits, which the tests are run
// on by `go test -overlay`. The source itself knows nothing of it.
type guard struct {
	name  string
	edits []edit
	test  string // that turns red
	focus string // steps to crash at
	red   string // what it says then, a pattern
}

// edit replaces a text that is in a file exactly as often as said.
type edit struct {
	file, old, new string
	times          int // 0: once
}

// guards are the protocol's. Each is shown to be needed by the judgement named last.
var guards = []guard{
	{"a manifest is created only where there is none", []edit{
		{"sink/parquet/manifest.go", "err := b.PutIfAbsent(ctx, name, data)", "_ = b.Delete(ctx, name)\n\terr := b.PutIfAbsent(ctx, name, data)", 0},
		{"sink/parquet/manifest.go", "if len(later) > 0 {", "if false {", 0}, // the same guard, for numbers that were pruned
	}, "TestTwoOwners", "", "parts do not tile|Redis differs|not in the log|last log row|manifest|part|segment"},
	{"a checkpoint waits until rows are acknowledged", []edit{
		{"processor/checkpoint.go", "if ok, err := s.pipe.idle(ctx, wait); err != nil || !ok {", "if _, err := s.pipe.idle(ctx, 0); err != nil {", 0},
	}, "TestCrashes", "", "Redis differs|last log row|not in the log|segment"},
	{"rows in doubt are settled", []edit{
		{"processor/segments.go", "if known[i] && d.Row.Version", "if false && known[i] && d.Row.Version", 0},
	}, "TestCrashes", "3 acknowledge", "not in the log|last log row"},
	{"history past the manifest is cut", []edit{
		{"processor/segments.go", "!m.Bootstrap.Done && !s.filling(m) {", "false {", 0},
	}, "TestCrashes", "history", "two log rows|available at|available_at"},
	{"an older version is refused", []edit{
		{"sink/redis/script.go", "elseif stored > version then outcome = 2", "elseif false then outcome = 2", 0},
	}, "TestTwoOwners", "", "go back|Redis differs|last log row"},
	{"the live directory is thrown away", []edit{
		{"processor/recovery.go", "if err := s.FS.RemoveAll(s.dir); err != nil {", "if err := error(nil); err != nil {", 0},
	}, "TestCrashes", "", "restore the state|state"},
	{"available_at goes on from the former owner's", []edit{
		{"processor/recovery.go", "available: s.step.meta.Available", "available: 0", 0},
		{"processor/recovery.go", "s.pipe.setClock(s.step.meta.Available)", "s.pipe.setClock(0)", 2},
	}, "TestCrashes", "", "available at|available_at"},
	{"as-of goes on from the former owner's", []edit{
		{"processor/segments.go", "s.step.floor = max(s.step.floor, row.Version.AsOf)", "_ = row.Version.AsOf", 0},
		{"processor/recovery.go", "s.step.floor = max(s.step.floor, p.AsOf)", "_ = p.AsOf", 0},
	}, "TestCrashes", "", "as-of goes back|last log row|available at|not in the log"},
	{"parts are published behind the manifest", []edit{
		{"processor/parts.go", "s.Bucket.PutFile(ctx, parquet.StagedName(p.Name),", "s.Bucket.PutFile(ctx, p.Name,", 0},
	}, "TestCrashes", "8 commit: the manifest is about", "no manifest has committed"},
	{"the segment is synced before the manifest", []edit{
		{"processor/checkpoint.go", "s.seg.Sync()", "error(nil)", 0},
		{"sink/bucket.go", "if err := f.Sync(); err != nil { // whoever", "if err := error(nil); err != nil { // whoever", 0},
	}, "TestCrashes", "8 commit", "damaged|does not exist|header|segment"},
}

// TestGuards takes guards of the protocol out, one at a time, and sees the tests turn red: FRESHET_GUARDS=all takes all, day two of them by the
// day's number, a number that one.
func TestGuards(t *testing.T) {
	if os.Getenv("FRESHET_GUARDS") == "" {
		t.Skip("it builds and runs the tests anew for each guard: set FRESHET_GUARDS")
	}
	if os.Getenv("FRESHET_WITHOUT") != "" {
		t.Skip("this is a run without a guard")
	}
	for i, g := range guards {
		if chosen(i) {
			t.Run(strings.ReplaceAll(g.name, " ", "_"), func(t *testing.T) { without(t, g) })
		}
	}
}

func chosen(i int) bool {
	switch which := os.Getenv("FRESHET_GUARDS"); which {
	case "all":
		return true
	case "day":
		day := fnv.New32a()
		fmt.Fprint(day, time.Now().UTC().YearDay())
		first := int(day.Sum32() % uint32(len(guards)))
		return i == first || i == (first+len(guards)/2)%len(guards)
	default:
		return which == fmt.Sprint(i+1)
	}
}

// without runs a guard's test on the source without it, with seed after seed, until it turns red.
func without(t *testing.T, g guard) {
	overlay := g.overlay(t)
	binary := filepath.Join(t.TempDir(), "crash.test")
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build without the guard: %v\n%s", err, out)
	}
	red := regexp.MustCompile(g.red)
	for seed := 1; seed <= 4; seed++ {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, binary, "-test.run", "^"+g.test+"$", "-test.v")
		cmd.Env = append(os.Environ(), "FRESHET_WITHOUT="+g.name, "FRESHET_FOCUS="+g.focus, "FRESHET_CRASHES=24", "FRESHET_OWNERS=1", fmt.Sprintf("SEED=%d", seed))
		begun := time.Now()
		out, err := cmd.CombinedOutput()
		late := ctx.Err() != nil
		cancel()
		if err == nil || late {
			continue
		}
		says := verdictOf(out)
		if !red.MatchString(says) {
			t.Errorf("without the guard it turns red, but it says %s", says)
		}
		t.Logf("red after %v, with seed %d: %s", time.Since(begun).Round(time.Second), seed, says)
		return
	}
	t.Errorf("the tests do not miss this guard: %s", g.name)
}

// overlay writes the edited sources and what tells go of them.
func (g *guard) overlay(t *testing.T) string {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range g.edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		from := path
		if replace[path] != "" {
			from = replace[path]
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(source, []byte(e.old)); n != max(e.times, 1) {
			t.Fatalf("%s has %q %d times, not %d: the guard has moved; mend the table", e.file, e.old, n, max(e.times, 1))
		}
		replace[path] = filepath.Join(dir, strings.ReplaceAll(e.file, "/", "~"))
		if err := os.WriteFile(replace[path], bytes.ReplaceAll(source, []byte(e.old), []byte(e.new)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// verdictOf is what a failed test says, without what it saw before, in a few lines.
func verdictOf(out []byte) string {
	var kept []string
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "SEED=") && strings.Contains(line, ": ") || strings.Contains(line, "panic:") || strings.Contains(line, "times:") {
			kept = append(kept, strings.TrimSpace(line[:min(len(line), 400)]))
		}
	}
	return strings.Join(kept, "\n")
}
