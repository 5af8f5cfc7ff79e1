package crash

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// sightings are what readers of the online store saw. One polls some entities all the time; at each crash all entities are looked at. No
// reader may ever see a version go back, an entity vanish, or one version with two values.
type sightings struct {
	w   *world
	rdb *goredis.Client

	mu    sync.Mutex
	life  string             // that is lived; guarded by mu
	last  map[string]sight   // by key; guarded by mu
	all   map[string][]sight // each version once; guarded by mu
	wrong []string           // guarded by mu
}

// sight is what an entity's hash held, and during which life it was seen first.
type sight struct {
	version, values string
	life            string
}

func (s *sightings) open(t testing.TB, w *world) {
	s.w, s.last, s.all = w, map[string]sight{}, map[string][]sight{}
	s.rdb = goredis.NewClient(&goredis.Options{Addr: w.redis.Addr(), DisableIdentity: true, Protocol: 2})
	t.Cleanup(func() { s.rdb.Close() })
}

// poll looks at the hot entities until ctx ends.
func (s *sightings) poll(ctx context.Context) {
	var keys []string
	for _, g := range s.w.groups {
		for u := range hotUsers {
			keys = append(keys, fmt.Sprintf("%su%03d", g.prefix, u))
		}
	}
	for ctx.Err() == nil {
		if err := s.look(ctx, keys); err != nil && ctx.Err() == nil {
			s.blame(err.Error())
		}
		select {
		case <-time.After(4 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// lookAtAll looks at every entity.
func (s *sightings) lookAtAll(ctx context.Context) error {
	var keys []string
	for _, key := range s.w.redis.Keys() {
		if !strings.Contains(key, ":_") {
			keys = append(keys, key)
		}
	}
	return s.look(ctx, keys)
}

func (s *sightings) look(ctx context.Context, keys []string) error {
	s.mu.Lock() // before reading: two looks must not be noted in the other order
	defer s.mu.Unlock()
	for chunk := range slices.Chunk(keys, 256) {
		pipe := s.rdb.Pipeline()
		cmds := make([]*goredis.MapStringStringCmd, len(chunk))
		for i, key := range chunk {
			cmds[i] = pipe.HGetAll(ctx, key)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for i, key := range chunk {
			s.see(key, cmds[i].Val())
		}
	}
	return nil
}

// see notes one look at one entity. s.mu is held.
func (s *sightings) see(key string, hash map[string]string) {
	last := s.last[key]
	if len(hash) == 0 {
		if last.version != "" {
			s.wrong = append(s.wrong, fmt.Sprintf("%s vanished after version %s", key, last.version))
		}
		return
	}
	now := sight{hash["_v"], hashText(hash), s.life}
	switch {
	case now.version < last.version:
		s.wrong = append(s.wrong, fmt.Sprintf("a reader saw %s go back from version %s to %s", key, last.version, now.version))
	case now.version == last.version && now.values != last.values:
		s.wrong = append(s.wrong, fmt.Sprintf("%s has two values of version %s: %s and %s", key, now.version, last.values, now.values))
	}
	if now.version != last.version {
		s.all[key] = append(s.all[key], now)
	}
	s.last[key] = now
}

func (s *sightings) blame(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, text)
}

// found returns what readers saw that they must not.
func (s *sightings) found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrong)
}

// hashText is a hash's features, by name.
func hashText(hash map[string]string) string {
	var fields []string
	for name, value := range hash {
		if name[0] != '_' {
			fields = append(fields, name+"="+value)
		}
	}
	slices.Sort(fields)
	return strings.Join(fields, " ")
}

// during says which life is lived from now on.
func (s *sightings) during(life string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = life
}
