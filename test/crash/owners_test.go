package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTwoOwners lets instances of the service join and leave under load, and cuts one off from the group's coordinator alone, so that it goes
// on, with partitions that are not its own any more, as long as it believes in them.
//
// It is not settled: some runs are red (processor/DESIGN.md, limits that are known), so it runs where FRESHET_OWNERS is set.
func TestTwoOwners(t *testing.T) {
	if os.Getenv("FRESHET_OWNERS") == "" {
		t.Skip("two owners of one partition at once are not settled yet: FRESHET_OWNERS=1 shows it")
	}
	seed := number(t, "SEED", int(time.Now().UnixNano()%1e9))
	if err := twoOwners(t, rand.New(rand.NewPCG(uint64(seed), 99))); err != nil {
		t.Fatalf("SEED=%d: %v", seed, err)
	}
}

func twoOwners(t testing.TB, rng *rand.Rand) error {
	w := newWorld(t)
	w.hiccups.every.Store(397)
	w.zombies = true
	w.progress = 3 * time.Second // it would tell the former owner that there is another
	if err := w.past(rand.New(rand.NewPCG(rng.Uint64(), 1)), 300); err != nil {
		return fmt.Errorf("publish the past: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel(); w.end() }()
	go w.sights.poll(ctx) // ended by cancel
	events := w.run(rand.New(rand.NewPCG(rng.Uint64(), 2)), 150)
	mem := vfs.NewCrashableMem()
	start := func(name, instance string, skew time.Duration) *life {
		return w.begin(setup{name: name, instance: instance, data: "/" + instance, mem: mem, skew: skew, rng: rng})
	}
	pause := func(d time.Duration) { time.Sleep(d + time.Duration(rng.IntN(300))*time.Millisecond) }
	a := start("a", "a", 0)
	pause(time.Second)
	b := start("b", "b", -150*time.Millisecond)
	pause(2 * time.Second)
	if err := b.stop(); err != nil {
		return fmt.Errorf("b leaves: %w", err)
	}
	b = start("b-again", "b", 120*time.Millisecond)
	pause(2 * time.Second)
	w.cut("a", true) // its session times out, and it does not know
	pause(4 * time.Second)
	w.cut("a", false)
	pause(2 * time.Second)
	if err := events.stop(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return w.judge(ctx, mem, []string{"/a", "/b"}, a, b)
}
