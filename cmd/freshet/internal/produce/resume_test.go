package produce

import (
	"fmt"
	"testing"

	"github.com/freshet-dev/freshet/processor/kafka"
)

// A run that was cut off is finished by another one that leaves out what is there: the topic is the same as if it had not been. Rows that are
// not kept keep their numbers to themselves.
func TestKeepAndSkip(t *testing.T) {
	text := history(300)
	keep := func(fields map[string]any) bool { return fields["user_id"] != "2" }
	run := func(b *bench, in Input, opts Options) {
		t.Helper()
		in.Keep = keep
		if _, err := Run(t.Context(), in, b.to, b.p, opts); err != nil {
			t.Fatal(err)
		}
	}
	whole := newBench(t)
	run(whole, cdnow(text), Default())
	want := whole.read(297)

	b := newBench(t)
	n := 0
	first := Default()
	first.Skip = func([]byte) bool { n++; return n > 100 } // cut off after 100
	run(b, cdnow(text), first)
	there := [partitions]int{}
	for p, recs := range b.read(100) {
		there[p] = len(recs)
	}
	second := Default()
	second.Skip = func(key []byte) bool {
		p := kafka.Murmur2Partition(key, partitions)
		there[p]--
		return there[p] >= 0
	}
	run(b, cdnow(text), second)
	for p, recs := range b.read(297) {
		for i, r := range recs {
			if w := want[p][i]; fmt.Sprint(r.Timestamp, r.Key, r.Value) != fmt.Sprint(w.Timestamp, w.Key, w.Value) {
				t.Fatalf("partition %d, record %d: %q %q, wanted %q %q", p, i, r.Key, r.Value, w.Key, w.Value)
			}
		}
	}
}
