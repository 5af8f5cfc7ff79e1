package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// member is one instance in a group, with what it was told.
type member struct {
	*Group
	mu    sync.Mutex
	owns  map[TP]bool
	log   []string
	fatal error
}

func join(t *testing.T, cfg Config, topic string) *member {
	t.Helper()
	m := &member{owns: map[TP]bool{}}
	note := func(what string, tps []TP, own bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, tp := range tps {
			if m.owns[tp] == own {
				t.Errorf("%s %v twice", what, tp)
			}
			m.owns[tp] = own
		}
		m.log = append(m.log, fmt.Sprint(what, len(tps)))
	}
	g, err := Join(within(t), cfg, []string{topic}, Callbacks{
		Assigned: func(tps []TP) { note("assigned", tps, true) },
		Revoked:  func(_ context.Context, tps []TP) { note("revoked", tps, false) },
		Lost:     func(tps []TP) { note("lost", tps, false) },
		Fatal: func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fatal = err
		},
	}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	m.Group = g
	return m
}

func (m *member) owned() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, own := range m.owns {
		if own {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func protocols(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, protocol := range []string{Classic, Consumer} {
		t.Run(protocol, func(t *testing.T) {
			_, cfg := cluster(t, kfake.BrokerConfigs(map[string]string{"group.consumer.heartbeat.interval.ms": "100"}))
			cfg.Protocol, cfg.SessionTimeout = protocol, 6*time.Second
			cfg.Group = fmt.Sprint("g-", time.Now().UnixNano())
			test(t, cfg)
		})
	}
}

func TestMembersShareThePartitions(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, cfg Config) {
		topic := newTopic(t, cfg, 4, nil)
		a := join(t, cfg, topic)
		eventually(t, "the first has all", func() bool { return a.owned() == 4 })
		b := join(t, cfg, topic)
		eventually(t, "both have two", func() bool { return a.owned() == 2 && b.owned() == 2 })
		if err := b.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		if b.owned() != 0 {
			t.Error("closed without handing over")
		}
		eventually(t, "the first has all again", func() bool { return a.owned() == 4 })
		if err := a.Close(within(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStaticMemberKeepsItsPartitions(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, cfg Config) {
		topic := newTopic(t, cfg, 4, nil)
		cfgA, cfgB := cfg, cfg
		cfgA.InstanceID, cfgB.InstanceID = "a", "b"
		a, b := join(t, cfgA, topic), join(t, cfgB, topic)
		eventually(t, "both have two", func() bool { return a.owned() == 2 && b.owned() == 2 })
		mine := func(m *member) (tps []int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for tp, own := range m.owns {
				if own {
					tps = append(tps, tp.Partition)
				}
			}
			slices.Sort(tps)
			return tps
		}
		before := mine(b)
		if err := b.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		begun := time.Now()
		b = join(t, cfgB, topic)
		eventually(t, "it has its partitions back", func() bool { return b.owned() == 2 })
		if after := mine(b); !slices.Equal(before, after) {
			t.Errorf("had %v, has %v", before, after)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("it took %s", d)
		}
		if a.owned() != 2 {
			t.Errorf("the other has %d", a.owned())
		}
		if err := b.Leave(within(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other has all at once", func() bool { return a.owned() == 4 })
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("leaving took effect after %s", d)
		}
		if err := a.Leave(within(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSecondProcessWithTheSameInstanceID(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	cfg.SessionTimeout, cfg.InstanceID, cfg.Group = 6*time.Second, "one", fmt.Sprint("g-", time.Now().UnixNano())
	topic := newTopic(t, cfg, 2, nil)
	a := join(t, cfg, topic)
	eventually(t, "the first has all", func() bool { return a.owned() == 2 })
	b := join(t, cfg, topic)
	eventually(t, "the first is told", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return errors.Is(a.fatal, ErrFenced) })
	eventually(t, "the second has all", func() bool { return a.owned() == 0 && b.owned() == 2 })
	time.Sleep(time.Second)
	if b.owned() != 2 || b.fatal != nil {
		t.Errorf("the first took it back: %v", b.log)
	}
	for _, m := range []*member{a, b} {
		if err := m.Close(within(t)); err != nil {
			t.Error(err)
		}
	}
}

func TestCommitsAreAdvice(t *testing.T) {
	t.Parallel()
	protocols(t, func(t *testing.T, cfg Config) {
		topic := newTopic(t, cfg, 2, nil)
		m := join(t, cfg, topic)
		eventually(t, "it has all", func() bool { return m.owned() == 2 })
		tps := []TP{{topic, 0}, {topic, 1}}
		if got, err := m.Committed(within(t), tps); err != nil || len(got) != 0 {
			t.Fatal(got, err)
		}
		if err := m.Commit(within(t), tps[0], 42, "store 17"); err != nil {
			t.Fatal(err)
		}
		got, err := m.Committed(within(t), tps)
		if err != nil || len(got) != 1 || got[tps[0]] != (CommittedOffset{42, "store 17"}) {
			t.Fatal(got, err)
		}
		if err := m.Close(within(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRevokeIsBounded(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	cfg.Group, cfg.RevokeTimeout = fmt.Sprint("g-", time.Now().UnixNano()), 200*time.Millisecond
	topic := newTopic(t, cfg, 1, nil)
	assigned := make(chan struct{})
	g, err := Join(within(t), cfg, []string{topic}, Callbacks{
		Assigned: func([]TP) { close(assigned) },
		Revoked:  func(ctx context.Context, _ []TP) { <-ctx.Done() },
		Lost:     func([]TP) {},
	}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	<-assigned
	begun := time.Now()
	if err := g.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d < 200*time.Millisecond || d > 3*time.Second {
		t.Errorf("it took %s", d)
	}
}

// The group is membership only. Were its client to fetch, each instance would read every partition twice, from a committed offset at that.
func TestGroupNeverFetches(t *testing.T) {
	t.Parallel()
	c, cfg := fake(t)
	topic := newTopic(t, cfg, 2, nil)
	write(t, cfg, TP{topic, 0}, numbered(0, 100))
	var fetches atomic.Int32
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	m := join(t, cfg, topic)
	eventually(t, "it has all", func() bool { return m.owned() == 2 })
	if err := m.Commit(within(t), TP{topic, 0}, 50, ""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if n := fetches.Load(); n != 0 {
		t.Errorf("%d fetch requests", n)
	}
	if err := m.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}
