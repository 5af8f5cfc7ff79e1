package shop

import (
	"slices"
	"testing"
	"time"
)

// Staged purchases are the favourite's, at their times, and in the order of all others.
func TestStaged(t *testing.T) {
	c := config()
	c.Staged = []time.Duration{50 * time.Hour, 90 * 24 * time.Hour, time.Hour}
	s := shop(t, c)
	var found []time.Duration
	last := int64(0)
	for last < c.Start.Add(c.History).UnixMilli() {
		e := s.Next()
		if e.PublishTime < last {
			t.Fatalf("an event published at %d after one at %d", e.PublishTime, last)
		}
		last = e.PublishTime
		since := time.UnixMilli(e.EventTime).Sub(c.Start)
		if e.Topic == Purchases && string(e.Key) == s.Favourite() && slices.Contains(c.Staged, since) && e.PublishTime == e.EventTime {
			found = append(found, since)
		}
	}
	if !slices.Equal(found, []time.Duration{time.Hour, 50 * time.Hour, 90 * 24 * time.Hour}) {
		t.Errorf("staged %v, found %v", c.Staged, found)
	}
}
