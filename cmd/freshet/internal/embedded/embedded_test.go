package embedded

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/freshet-dev/freshet/processor/kafka"
)

func start(t *testing.T, dir string, opts Options) *Servers {
	t.Helper()
	s, err := Start(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func register(t *testing.T, s *Servers, subject, field string) int {
	t.Helper()
	cl, err := sr.NewClient(sr.URLs(s.RegistryURL))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cl.CreateSchema(t.Context(), subject, sr.Schema{Schema: fmt.Sprintf(`{"type":"record","name":"R","fields":[{"name":%q,"type":"long"}]}`, field)})
	if err != nil {
		t.Fatal(err)
	}
	return got.ID
}

// redis sends one command and returns the first line of the answer.
func redis(t *testing.T, s *Servers, command string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.RedisAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	words := strings.Fields(command)
	fmt.Fprintf(c, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(w), w)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestStartAgainOverTheSameDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	topics := Options{Topics: []Topic{{"purchases", 4}, {"sessions", 2}}}
	s := start(t, dir, topics)
	ids := []int{register(t, s, "purchases-value", "a"), register(t, s, "sessions-value", "b"), register(t, s, "purchases-value", "c")}
	if again := register(t, s, "purchases-value", "a"); again != ids[0] {
		t.Fatalf("schema %d became %d", ids[0], again)
	}
	cfg := kafka.Default()
	cfg.Brokers = s.Brokers
	p, err := kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Produce(t.Context(), "purchases", []kafka.Record{{Value: []byte("v")}}, 3); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A process that died while it wrote.
	f, err := os.OpenFile(filepath.Join(dir, "registry.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"subject":"half`); err != nil {
		t.Fatal(err)
	}
	f.Close()

	s = start(t, dir, topics)
	for i, field := range []string{"a", "b", "c"} {
		if got := register(t, s, []string{"purchases-value", "sessions-value", "purchases-value"}[i], field); got != ids[i] {
			t.Errorf("schema %d became %d", ids[i], got)
		}
	}
	if id := register(t, s, "other-value", "d"); id != ids[2]+1 {
		t.Errorf("the next schema has id %d after %v", id, ids)
	}
	cfg.Brokers = s.Brokers
	a, err := kafka.NewAdmin(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, end, err := a.Offsets(t.Context(), kafka.TP{Topic: "purchases", Partition: 3}); err != nil || end != 1 {
		t.Errorf("the partition ends at %d, %v", end, err)
	}
	if n, _, err := a.Partitions(t.Context(), "sessions"); err != nil || n != 2 {
		t.Errorf("%d partitions, %v", n, err)
	}
}

func TestRedisKeysExpire(t *testing.T) {
	s := start(t, t.TempDir(), Options{redisTick: 20 * time.Millisecond})
	if got := redis(t, s, "SET k v PX 200"); got != "+OK" {
		t.Fatal(got)
	}
	if got := redis(t, s, "EXISTS k"); got != ":1" {
		t.Fatal(got)
	}
	for begun := time.Now(); redis(t, s, "EXISTS k") != ":0"; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("still there")
		}
	}
}

func TestPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, opts := range []Options{{KafkaPort: port}, {RegistryPort: port}, {RedisPort: port}} {
		s, err := Start(context.Background(), t.TempDir(), opts)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is port %d taken?", port)) {
			t.Errorf("%v", err)
		}
		if err == nil {
			s.Close()
		}
	}
}
