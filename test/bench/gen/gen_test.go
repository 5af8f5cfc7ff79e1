package gen

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"
)

// The digests are those of files written by the Java generator that the other engines were measured with. (Too slow for every day, but
// compared once: Z 10M_1M is b4b3db9aaae0bb91065f404182ab584c7ea08d742211e7994cd6a8da33ffa3a7, U 10M_1M is
// d60f967a58131614a22e206a8d20b81832318d42ce403843c68e8ecb2997e857.)
func TestFilesAreThoseOfTheOtherEngines(t *testing.T) {
	for _, c := range []struct {
		dist   byte
		n      int64
		users  int
		digest string
	}{
		{Zipf, 20_000, 2_000, "e032334572308a42395610d7138870e16a1451252485c989489d314a6b16367e"},
		{Uniform, 20_000, 2_000, "ff9f06b30f0aa23a56295dc2b5aa8809cd07f74853a76aabad2e97a82329acb7"},
		{Zipf, 3_000_000, 300_000, "39f2a2e58fcec9e5c820b7423240fe2341182ad9aebdb08ffe302e63aaf5da3f"},
	} {
		if c.n > 1e6 && testing.Short() {
			continue
		}
		digest := sha256.New()
		if err := Write(digest, c.dist, c.n, c.users); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", digest.Sum(nil)); got != c.digest {
			t.Errorf("%c %d_%d: %s, want %s", c.dist, c.n, c.users, got, c.digest)
		}
	}
}

// Every event is within the bounds that Generate promises, and the file holds what Generate gives.
func TestBounds(t *testing.T) {
	const n, users = 50_000, 700
	for _, dist := range []byte{Uniform, Zipf} {
		var file bytes.Buffer
		if err := Write(&file, dist, n, users); err != nil {
			t.Fatal(err)
		}
		i := int64(0)
		Generate(dist, n, users, func(user, ts int64, amount float64, product int64, quantity int32) {
			turn := T0 + int64(float64(i)/n*float64(Span))
			i++
			if user < 1 || user > users || ts > turn || ts <= turn-Disorder || amount < 1 || amount >= 500 || product < 0 || product >= Products || quantity < 1 || quantity > 4 {
				t.Fatalf("event %d is out of bounds: %d %d %g %d %d", i, user, ts, amount, product, quantity)
			}
			r := file.Next(RecordBytes)
			if binary.LittleEndian.Uint64(r) != uint64(user) || binary.LittleEndian.Uint64(r[8:]) != uint64(ts) ||
				binary.LittleEndian.Uint64(r[16:]) != math.Float64bits(amount) || binary.LittleEndian.Uint64(r[24:]) != uint64(product) || binary.LittleEndian.Uint32(r[32:]) != uint32(quantity) {
				t.Fatalf("event %d lies otherwise in the file", i)
			}
		})
		if i != n || file.Len() != 0 {
			t.Errorf("%c: %d events, %d bytes left", dist, i, file.Len())
		}
	}
}

// The most frequent user of Zipf's law has 1 ÷ Σ k^−1.1 of all events.
func TestZipf(t *testing.T) {
	const n, users = 200_000, 1000
	sum, first := 0.0, 0
	for k := 1; k <= users; k++ {
		sum += math.Pow(float64(k), -1.1)
	}
	Generate(Zipf, n, users, func(user, _ int64, _ float64, _ int64, _ int32) {
		if user == 1 {
			first++
		}
	})
	if want := n / sum; math.Abs(float64(first)-want) > 5*math.Sqrt(want) {
		t.Errorf("user 1 has %d events, %.0f were to be expected", first, want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestWriteTellsErrors(t *testing.T) {
	if err := Write(full{}, Uniform, 100_000, 10); err == nil || err.Error() != "write events: the disk is full" {
		t.Errorf("got %v", err)
	}
}
