package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "freshet.yaml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReadsWhatDeployShips(t *testing.T) {
	for _, name := range []string{"freshet.yaml", "compose/freshet.yaml"} {
		c, err := Read(filepath.Join("../../../../deploy", name), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(c.Kafka.Brokers) == 0 || c.Redis.Addr == "" || c.Registry.URL == "" {
			t.Errorf("%s leaves out a server: %+v", name, c)
		}
	}
}

func TestSettingsAndEnvironment(t *testing.T) {
	t.Setenv("FRESHET_TEST_BROKER", "10.0.0.5:9092")
	name := write(t, "kafka: {brokers: [\"${FRESHET_TEST_BROKER}\"]}\nredis: {addr: 127.0.0.1:6379}\ncheckpoint: {every: 1m}\n")
	c, err := Read(name, []string{"checkpoint.every=5s", "log.part_max_age=2s", "definitions=[a.yaml, b]"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Kafka.Brokers[0] != "10.0.0.5:9092" || c.Checkpoint.Every != 5*time.Second || c.Log.PartMaxAge != 2*time.Second || len(c.Definitions) != 2 {
		t.Errorf("got %+v", c)
	}
}

func TestErrorsNamePlaceAndMend(t *testing.T) {
	const ok = "kafka: {brokers: [\"127.0.0.1:9092\"]}\nredis: {addr: 127.0.0.1:6379}\n"
	for _, x := range []struct {
		text, set string
		want      []string
	}{
		{ok + "lgo: {}\n", "", []string{":3:1: unknown key lgo", "did you mean log?"}},
		{ok + "log: {part_max_age: soon}\n", "", []string{":3:21:", "log.part_max_age", "duration, such as 30s"}},
		{ok + "log: 3\n", "", []string{":3:6:", "expected keys"}},
		{ok + "http: {listen: \"${FRESHET_NOT_SET}\"}\n", "", []string{":3:16:", "FRESHET_NOT_SET"}},
		{ok + "http: {listen: \"127.0.0.1:${PORT}\"}\n", "", []string{"only where it is the whole value"}},
		{ok + "idle: sometimes\n", "", []string{"neither wall nor hold"}},
		{ok, "kafka.brokrs=[x]", []string{"--set", "unknown key kafka.brokrs", "did you mean brokers?"}},
		{ok, "nonsense", []string{"write a.b=c"}},
		{"redis: {addr: 127.0.0.1:6379}\n", "", []string{"kafka.brokers: none given"}},
		{ok + "redis: {addr: x:1}\n", "", []string{"redis"}},
		{ok + "log: &a {}\n", "", []string{"anchors"}},
	} {
		var settings []string
		if x.set != "" {
			settings = append(settings, x.set)
		}
		_, err := Read(write(t, x.text), settings)
		if err == nil {
			t.Errorf("%q %q: no error", x.text, x.set)
			continue
		}
		for _, w := range x.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q %q: %q does not say %q", x.text, x.set, err, w)
			}
		}
	}
}
