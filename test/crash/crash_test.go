package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An instance of the service goes down as often as this in one world.
const crashesPerWorld = 52

// TestCrashes takes the service down at every step of its protocol, 52 times in each of some worlds, and holds what comes of it against the oracle.
func TestCrashes(t *testing.T) {
	crashes, seed := number(t, "FRESHET_CRASHES", crashesPerWorld), number(t, "SEED", int(time.Now().UnixNano()%1e9))
	if testing.Short() {
		crashes = min(crashes, 20)
	}
	t.Logf("SEED=%d", seed)
	hits := map[step]int{}
	for n := 0; n < crashes; n += crashesPerWorld {
		if err := crashWorld(t, rand.New(rand.NewPCG(uint64(seed), uint64(n))), min(crashesPerWorld, crashes-n), hits); err != nil {
			t.Fatalf("SEED=%d, world %d: %v", seed, n/crashesPerWorld, err)
		}
	}
	var table strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&table, "\n%6d  %s", hits[s], s)
		if crashes >= 200 && hits[s] < 5 {
			t.Errorf("the power went %d times only at %q", hits[s], s)
		}
	}
	t.Logf("%d crashes\n  hits  step%s", crashes, table.String())
}

func number(t testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// crashWorld is one world with so many crashes.
func crashWorld(t testing.TB, rng *rand.Rand, crashes int, hits map[step]int) error {
	w := newWorld(t)
	w.hiccups.every.Store(397)
	if err := w.past(rand.New(rand.NewPCG(rng.Uint64(), 1)), 1500); err != nil {
		return fmt.Errorf("publish the past: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel(); w.end() }()
	polled := make(chan struct{})
	go func() { defer close(polled); w.sights.poll(ctx) }() // ended by cancel
	events := w.run(rand.New(rand.NewPCG(rng.Uint64(), 2)), 150)
	mem := vfs.NewCrashableMem()
	for n := range crashes {
		l := w.begin(w.choose(rng, n, mem, hits))
		if err := w.await(ctx, l); err != nil {
			return fmt.Errorf("life %d, crash at %q: %w", n, l.armed, err)
		}
		hits[l.at]++
		mem = l.after
	}
	if err := events.stop(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	l := w.begin(setup{name: "last", instance: "one", data: dataDir, mem: mem, rng: rng, percent: 100})
	err := w.judge(ctx, mem, []string{dataDir}, l)
	cancel()
	<-polled
	return err
}

// choose says how the next life is to end: at one of the steps that were reached least.
func (w *world) choose(rng *rand.Rand, n int, mem *vfs.MemFS, hits map[step]int) setup {
	o := setup{name: fmt.Sprint("life-", n), instance: "one", data: dataDir, mem: mem, rng: rand.New(rand.NewPCG(rng.Uint64(), 3))}
	o.skew = time.Duration(rng.IntN(600)-300) * time.Millisecond
	o.percent = []int{0, 100, 100, rng.IntN(101)}[rng.IntN(4)] // 100: it is killed; less: the machine loses its power
	o.skip, o.armed = rng.IntN(4), anyInstant
	least := 1 << 30
	focus := os.Getenv("FRESHET_FOCUS")
	for _, i := range rng.Perm(len(steps)) {
		if !strings.HasPrefix(string(steps[i]), focus) {
			continue
		}
		if steps[i] == historyRows && n >= 5 { // there is no history later
			continue
		}
		if hits[steps[i]] < least {
			least, o.armed = hits[steps[i]], steps[i]
		}
	}
	if n < 5 && rng.IntN(2) == 0 && focus == "" {
		o.armed = historyRows
	}
	if strings.HasPrefix(string(o.armed), "recovery") { // a shard does these once
		o.skip = rng.IntN(16)
	}
	return o
}

// await waits until the power has gone, and looks at what readers see then.
func (w *world) await(ctx context.Context, l *life) error {
	limit := 8 * time.Second
	if l.armed == anyInstant {
		limit = time.Duration(l.rng.IntN(600)) * time.Millisecond
	}
	select {
	case <-l.crashed:
	case <-time.After(limit):
		l.crash(anyInstant)
		<-l.crashed
	}
	if err := l.complain(); err != nil {
		return err
	}
	if err := w.sights.lookAtAll(ctx); err != nil {
		return err
	}
	if wrong := w.sights.found(); len(wrong) > 0 {
		return errors.New(wrong[0])
	}
	names, err := uncommitted(ctx, newDisk(l.after, func(operation) {}), w)
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("a reader's glob finds parts that no manifest has committed: %v", names)
	}
	return err
}

// judge waits until the lives have caught up, stops them and holds everything against the oracle.
func (w *world) judge(ctx context.Context, mem *vfs.MemFS, data []string, lives ...*life) error {
	j, err := w.admit(ctx)
	if err != nil {
		return fmt.Errorf("read the topics: %w", err)
	}
	if err := w.settle(ctx, j, lives...); err != nil {
		return err
	}
	if err := w.sights.lookAtAll(ctx); err != nil {
		return err
	}
	for _, l := range lives {
		if err := l.stop(); err != nil {
			return fmt.Errorf("stop: %w", err)
		}
	}
	reading := newDisk(mem, func(operation) {})
	if err := j.readLog(ctx, reading, data); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if j.letters, err = w.allLetters(ctx); err != nil {
		return err
	}
	j.judgeLog(4)
	j.judgeLetters()
	seen, lost := j.judgeSights()
	names, err := uncommitted(ctx, reading, w)
	if err != nil {
		return err
	}
	for _, name := range names {
		j.blame("a part that no manifest has committed", "%s", name)
	}
	w.t.Logf("%d log rows, %d of them compared with the oracle; %d values seen by readers, of which power losses took %d out of the log; %d dead letters", j.rows, j.compared, seen, lost, len(j.letters))
	return j.verdict()
}
