//go:build unix

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// sightings are what a reader that polls Redis saw. It may never see a version go back, an entity vanish, or one version with two values.
type sightings struct {
	w    *world
	keys []string

	mu     sync.Mutex
	last   map[string]sight   // by key; guarded by mu
	gone   map[string]bool    // keys that the last look did not find; guarded by mu
	all    map[string][]sight // each version once; guarded by mu
	wrong  []string           // guarded by mu
	errs   int                // looks that Redis did not answer; guarded by mu
	losing bool               // Redis is losing its data: what vanishes is its fault; guarded by mu
}

// sight is what an entity's hash held, and when: it was not there yet in the look that began at after, and was in the one that ended at
// before, µs. after is 0 where there was no such look.
type sight struct {
	version, values string
	after, before   int64
}

func newSightings(w *world) *sightings {
	s := &sightings{w: w, last: map[string]sight{}, gone: map[string]bool{}, all: map[string][]sight{}}
	for _, g := range w.groups {
		for u := range hotUsers {
			s.keys = append(s.keys, g.prefix+userName(u))
		}
	}
	return s
}

// poll looks until stop is called, which waits for the last look.
func (s *sightings) poll() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ended by stop
		defer close(done)
		looked := int64(0)
		for ctx.Err() == nil {
			looked = s.look(ctx, looked)
			select {
			case <-time.After(4 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-done }
}

// look reads all keys in one pipeline and returns when it began, or 0 if it failed.
func (s *sightings) look(ctx context.Context, looked int64) int64 {
	began := time.Now().UnixMicro()
	pipe := s.w.rdb.Pipeline()
	answers := make([]interface{ Val() map[string]string }, len(s.keys))
	for i, key := range s.keys {
		answers[i] = pipe.HGetAll(ctx, key)
	}
	_, err := pipe.Exec(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs++
		return 0
	}
	ended := time.Now().UnixMicro()
	for i, key := range s.keys {
		s.see(key, answers[i].Val(), looked, ended)
	}
	return began
}

// see notes one look at one entity. s.mu is held.
func (s *sightings) see(key string, hash map[string]string, after, before int64) {
	last := s.last[key]
	if len(hash) == 0 {
		if last.version != "" && !s.losing {
			s.wrong = append(s.wrong, fmt.Sprintf("%s vanished after version %s", key, last.version))
		}
		s.gone[key] = true
		return
	}
	if s.gone[key] && last.version != "" { // what a look did not find then, Redis may have had and lost
		after = 0
	}
	delete(s.gone, key)
	now := sight{hash["_v"], hashText(hash), after, before}
	switch {
	case now.version < last.version:
		s.wrong = append(s.wrong, fmt.Sprintf("a reader saw %s go back from version %s to %s", key, last.version, now.version))
	case now.version == last.version && now.values != last.values:
		s.wrong = append(s.wrong, fmt.Sprintf("%s has two values of version %s: %q and %q", key, now.version, last.values, now.values))
	}
	if now.version != last.version {
		s.all[key] = append(s.all[key], now)
	}
	s.last[key] = now
}

// lose says whether Redis is losing its data from now on.
func (s *sightings) lose(losing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losing = losing
}

// found is what the reader saw that it must not have seen.
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
