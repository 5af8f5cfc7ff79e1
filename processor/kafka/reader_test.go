package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestReadFromExactOffsets(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	topic := newTopic(t, cfg, 3, nil)
	for p := range int32(3) {
		write(t, cfg, TP{topic, p}, numbered(0, 1000))
	}
	r := reader(t, cfg)
	want := map[TP]int64{{topic, 0}: 0, {topic, 1}: 417, {topic, 2}: 1000}
	for tp, offset := range want {
		r.Add(tp, offset)
	}
	ended := 0
	await(t, r, func(f Fetch) bool {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		for _, rec := range f.Records {
			if rec.Offset != want[f.TP] || string(rec.Value) != fmt.Sprint("v", rec.Offset) || string(rec.Key) != fmt.Sprint("k", rec.Offset) ||
				rec.Timestamp != 1_700_000_000_000+rec.Offset {
				t.Fatalf("%v at %d: %+v", f.TP, want[f.TP], rec)
			}
			want[f.TP]++
		}
		if f.LogStart != 0 || f.Next != want[f.TP] {
			t.Fatalf("%v: next %d after %d, start %d", f.TP, f.Next, want[f.TP], f.LogStart)
		}
		if f.Next == f.End {
			ended++
		}
		return ended == 3
	})
}

func TestRecordsAreWhole(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	in := []Record{
		{Timestamp: 1, Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"a", []byte("1")}, {"a", nil}, {"", []byte{}}}},
		{Timestamp: 1_700_000_000_001, Key: nil, Value: nil},
		{Timestamp: 7_000_000_000_000, Key: []byte{}, Value: []byte{}},
		{Timestamp: 5, Key: []byte{0xff}, Value: bytes.Repeat([]byte{1}, 300_000)},
	}
	if os.Getenv("FRESHET_KAFKA") != "" {
		in[2].Timestamp = 6 // a real broker refuses the future
	}
	if err := producer(t, cfg).Produce(within(t), tp.Topic, in, 0); err != nil {
		t.Fatal(err)
	}
	r := reader(t, cfg)
	r.Add(tp, 0)
	var got []Record
	await(t, r, func(f Fetch) bool {
		got = append(got, f.Records...)
		return f.Next == 4
	})
	for i := range in {
		in[i].Offset = int64(i)
		if fmt.Sprintf("%#v", got[i]) != fmt.Sprintf("%#v", in[i]) {
			t.Errorf("record %d: %.300v\nwant %.300v", i, fmt.Sprintf("%#v", got[i]), fmt.Sprintf("%#v", in[i]))
		}
	}
}

// A shard that waits for position == end must get there when the last thing in a partition is nothing that has a record.
func TestPositionPassesMarkers(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	write(t, cfg, tp, numbered(0, 10))
	transaction(t, cfg, tp, numbered(10, 15), kgo.TryCommit) // 10–14, marker 15
	transaction(t, cfg, tp, numbered(90, 95), kgo.TryAbort)  // 16–20, marker 21
	for _, from := range []int64{0, 12, 15, 16, 18, 21, 22} {
		r := reader(t, cfg)
		r.Add(tp, from)
		equal(t, readAll(t, r, tp, 22), values(min(int(from), 15), 15))
	}
	start, end, err := admin(t, cfg).Offsets(within(t), tp)
	if err != nil || start != 0 || end != 22 {
		t.Fatalf("offsets %d–%d, %v", start, end, err)
	}
}

func TestOpenTransactionIsTheEnd(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	write(t, cfg, tp, numbered(0, 3))
	end := begin(t, cfg, tp, numbered(3, 5))
	write(t, cfg, tp, numbered(5, 7)) // committed, but behind the open transaction
	r := reader(t, cfg)
	r.Add(tp, 0)
	got := readAll(t, r, tp, 3)
	equal(t, got, values(0, 3))
	if _, stable, err := admin(t, cfg).Offsets(within(t), tp); err != nil || stable != 3 {
		t.Fatalf("last stable offset %d, %v", stable, err)
	}
	end(within(t), kgo.TryCommit)
	equal(t, readAll(t, r, tp, 8), values(3, 7))
}

func TestPositionPassesCompactedHoles(t *testing.T) {
	t.Parallel()
	c, cfg := fake(t)
	tp := TP{newTopic(t, cfg, 1, map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "min.compaction.lag.ms": "0"}), 0}
	same := func(v string) []Record { return []Record{{Key: []byte("k"), Value: []byte(v)}} }
	write(t, cfg, tp, []Record{{Key: []byte("first"), Value: []byte("a")}}) // the fake moves the log's start to the first record kept
	for _, v := range []string{"b", "c"} {
		write(t, cfg, tp, same(v))
	}
	transaction(t, cfg, tp, same("d"), kgo.TryCommit) // 3, marker 4
	transaction(t, cfg, tp, same("e"), kgo.TryAbort)  // 5, marker 6
	c.Compact()
	for _, from := range []int64{0, 1, 2, 4, 5, 6, 7} {
		r := reader(t, cfg)
		r.Add(tp, from)
		want := map[int64][]string{0: {"a", "d"}, 1: {"d"}, 2: {"d"}}[from]
		equal(t, readAll(t, r, tp, 7), want)
	}
}

// The client's own consumer is the judge of a random mix of plain, committed and aborted batches.
func TestReadsWhatTheClientReads(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	rng := rand.New(rand.NewPCG(1, 2))
	n := 0
	for range 30 {
		rs := numbered(n, n+1+rng.IntN(20))
		n += len(rs)
		switch rng.IntN(3) {
		case 0:
			write(t, cfg, tp, rs)
		case 1:
			transaction(t, cfg, tp, rs[:min(len(rs), 4)], kgo.TryCommit)
		case 2:
			transaction(t, cfg, tp, rs[:min(len(rs), 4)], kgo.TryAbort)
		}
	}
	_, end, err := admin(t, cfg).Offsets(within(t), tp)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cfg, tp, numbered(n, n+1)) // so that the client, too, has a last record to stop at
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{tp.Topic: {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var want []string
	var offsets []int64
	for ctx := within(t); len(offsets) == 0 || offsets[len(offsets)-1] != end; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { want, offsets = append(want, string(r.Value)), append(offsets, r.Offset) })
	}
	for _, from := range []int64{0, 1, end / 3, end / 2, end - 1, end} {
		r := reader(t, cfg)
		r.Add(tp, from)
		i, _ := slices.BinarySearch(offsets, from)
		equal(t, readAll(t, r, tp, end+1), want[i:])
	}
}

func TestOutOfRangeIsTold(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp, other := TP{newTopic(t, cfg, 2, nil), 0}, int32(1)
	write(t, cfg, tp, numbered(0, 5))
	r := reader(t, cfg)
	r.Add(tp, 7)
	r.Add(TP{tp.Topic, other}, 0)
	told, begun := 0, time.Now()
	await(t, r, func(f Fetch) bool {
		if f.TP.Partition == other {
			return false
		}
		if !errors.Is(f.Err, ErrOutOfRange) || f.Next != 7 || f.End != -1 {
			t.Fatalf("%+v", f)
		}
		told++
		return told == 3
	})
	if d := time.Since(begun); d < 200*time.Millisecond { // 100 ms and 200 ms lie between them
		t.Fatalf("told three times within %s: a hot loop", d)
	}
	// The other partition of that broker does not wait for it.
	write(t, cfg, TP{tp.Topic, other}, numbered(0, 1))
	await(t, r, func(f Fetch) bool { return f.TP.Partition == other && len(f.Records) == 1 })
	// And it goes on by itself once the offset exists.
	write(t, cfg, tp, numbered(5, 9))
	await(t, r, func(f Fetch) bool { return f.TP == tp && len(f.Records) == 2 && string(f.Records[0].Value) == "v7" })
}

func TestTopicThatComesLater(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{fmt.Sprint("later-", time.Now().UnixNano()), 0}
	r := reader(t, cfg)
	r.Add(tp, 0)
	await(t, r, func(f Fetch) bool { return errors.Is(f.Err, ErrUnknownTopic) })
	if _, _, err := admin(t, cfg).Partitions(within(t), tp.Topic); !errors.Is(err, ErrUnknownTopic) {
		t.Fatal(err)
	}
	if err := admin(t, cfg).EnsureTopic(within(t), tp.Topic, 1, map[string]string{"retention.ms": "-1"}); err != nil {
		t.Fatal(err)
	}
	write(t, cfg, tp, numbered(0, 1))
	await(t, r, func(f Fetch) bool { return len(f.Records) == 1 })
}

func TestTopicMadeAnewIsTold(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	a := admin(t, cfg)
	_, before, err := a.Partitions(within(t), tp.Topic)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cfg, tp, numbered(0, 3))
	r := reader(t, cfg)
	r.Add(tp, 0)
	readAll(t, r, tp, 3)
	if _, err := a.adm.DeleteTopics(within(t), tp.Topic); err != nil {
		t.Fatal(err)
	}
	for ctx := within(t); ; time.Sleep(50 * time.Millisecond) {
		if err := a.EnsureTopic(ctx, tp.Topic, 1, map[string]string{"retention.ms": "-1"}); err != nil {
			t.Fatal(err)
		}
		if _, id, err := a.Partitions(ctx, tp.Topic); err == nil && id != before {
			break
		}
	}
	write(t, cfg, tp, numbered(100, 110))
	await(t, r, func(f Fetch) bool {
		if len(f.Records) > 0 {
			t.Fatalf("read %q of the new topic at an offset of the old one", f.Records[0].Value)
		}
		return errors.Is(f.Err, ErrTopicRecreated)
	})
	r.Remove(tp)
	r.Add(tp, 0)
	equal(t, readAll(t, r, tp, 10), values(100, 110))
}

func TestPauseResumeRemove(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	write(t, cfg, tp, numbered(0, 10))
	r := reader(t, cfg)
	r.Add(tp, 0)
	r.Pause(tp)
	nothing := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		if fs, err := r.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("polled %v, %v", fs, err)
		}
	}
	nothing()
	r.Resume(tp)
	equal(t, readAll(t, r, tp, 10), values(0, 10))
	r.Pause(tp)
	time.Sleep(2 * cfg.FetchMaxWait) // for the request under way
	write(t, cfg, tp, numbered(10, 11))
	nothing()
	r.Remove(tp)
	nothing()
	r.Resume(tp)
	nothing()
	r.Add(tp, 4)
	equal(t, readAll(t, r, tp, 11), values(4, 11))
	r.Add(tp, 9) // moves
	equal(t, readAll(t, r, tp, 11), values(9, 11))
}

func TestBuffersAreBounded(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	big := make([]Record, 300)
	for i := range big {
		big[i] = Record{Value: bytes.Repeat([]byte{byte(rand.Uint32())}, 10_000)}
	}
	for i := range 10 {
		write(t, cfg, tp, big[i*30:][:30])
	}
	cfg.PartitionFetchBytes, cfg.PartitionBufferBytes = 1<<10, 400_000 // a batch an answer, two of about 300 kB held
	metrics := NewMetrics(prometheus.NewRegistry())
	r, err := NewReader(cfg, quiet(), metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Add(tp, 0)
	time.Sleep(500 * time.Millisecond)
	if n := gauge(t, metrics.BufferedBytes); n < 400_000 || n > 800_000 {
		t.Fatalf("%v bytes buffered", n)
	}
	if n := len(readAll(t, r, tp, 300)); n != 300 {
		t.Fatalf("read %d records", n)
	}
	if n := gauge(t, metrics.BufferedBytes) + gauge(t, metrics.LagRecords); n != 0 {
		t.Fatalf("buffered bytes and lag are %v at the end", n)
	}
}

// Partitions that are paused with full buffers leave room for the others, and nothing of theirs is lost or read twice.
func TestPausedPartitionsDoNotStarveOthers(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	topic := newTopic(t, cfg, 2, nil)
	const n = 400
	big := make([]Record, n)
	for i := range big {
		big[i] = Record{Value: bytes.Repeat([]byte{byte(i)}, 10_000)}
	}
	for p := range int32(2) {
		for i := 0; i < n; i += 20 {
			write(t, cfg, TP{topic, p}, big[i:i+20])
		}
	}
	cfg.PartitionFetchBytes, cfg.ReaderBufferBytes = 1<<10, 1<<20
	r := reader(t, cfg)
	slow, quick := TP{topic, 0}, TP{topic, 1}
	read := func(tp TP, got *int64) {
		t.Helper()
		await(t, r, func(f Fetch) bool {
			for _, rec := range f.Records {
				if f.TP != tp || rec.Offset != *got || rec.Value[0] != byte(*got) {
					t.Fatalf("%v, offset %d after %d", f.TP, rec.Offset, *got)
				}
				*got++
			}
			return f.TP == tp && f.Next == n
		})
	}
	r.Add(slow, 0)
	time.Sleep(300 * time.Millisecond) // its records fill all there is
	r.Pause(slow)
	r.Add(quick, 0)
	var a, b int64
	read(quick, &b)
	r.Remove(quick)
	r.Resume(slow)
	read(slow, &a)
	if a != n || b != n {
		t.Errorf("read %d and %d records", a, b)
	}
}

// Whatever is paused and resumed, and when: each record comes once, in order.
func TestPausingAtRandom(t *testing.T) {
	t.Parallel()
	c, cfg := fake(t)
	topic := newTopic(t, cfg, 3, nil)
	const n = 300
	big := make([]Record, n)
	for i := range big {
		big[i] = Record{Value: make([]byte, 10_000)}
	}
	for p := range int32(3) {
		for i := 0; i < n; i += 10 {
			write(t, cfg, TP{topic, p}, big[i:i+10])
		}
	}
	cfg.PartitionFetchBytes, cfg.ReaderBufferBytes, cfg.FetchMaxWait = 1<<10, 1<<20, 5*time.Millisecond
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		time.Sleep(2 * time.Millisecond) // so that most pauses come while a request is under way
		return nil, nil, false
	})
	r := reader(t, cfg)
	for p := range int32(3) {
		r.Add(TP{topic, p}, 0)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	var next [3]int64
	ctx := within(t)
	for next != [3]int64{n, n, n} {
		for p := range int32(3) {
			if rng.IntN(2) == 0 {
				r.Pause(TP{topic, p})
			} else {
				r.Resume(TP{topic, p})
			}
		}
		time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
		if rng.IntN(3) > 0 {
			continue
		}
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		fetches, err := r.Poll(short)
		cancel()
		if ctx.Err() != nil || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("at %v: %v", next, err)
		}
		for _, f := range fetches {
			for _, rec := range f.Records {
				if rec.Offset != next[f.TP.Partition] {
					t.Fatalf("partition %d: offset %d after %d", f.TP.Partition, rec.Offset, next[f.TP.Partition])
				}
				next[f.TP.Partition]++
			}
		}
	}
}

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Gauge.GetValue()
}

func TestBatchThatExplodes(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	topic := newTopic(t, cfg, 2, nil)
	bomb := []Record{{Value: make([]byte, 3<<20)}}
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ProducerBatchCompression(kgo.GzipCompression()), kgo.ProducerBatchMaxBytes(4<<20),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(within(t), &kgo.Record{Topic: topic, Value: bomb[0].Value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	cfg.MaxDecompressedBytes = 1 << 20
	r := reader(t, cfg)
	r.Add(TP{topic, 0}, 0)
	r.Add(TP{topic, 1}, 0)
	await(t, r, func(f Fetch) bool { return f.TP.Partition == 0 && errors.Is(f.Err, ErrTooLarge) && f.Next == 0 })
	write(t, cfg, TP{topic, 1}, numbered(0, 1))
	await(t, r, func(f Fetch) bool { return f.TP.Partition == 1 && len(f.Records) == 1 })
}

func TestCorruptBatch(t *testing.T) {
	t.Parallel()
	c, cfg := fake(t)
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	write(t, cfg, tp, numbered(0, 10))
	broken := true
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !broken {
			return nil, nil, false
		}
		req := kreq.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		st := kmsg.NewFetchResponseTopic()
		st.Topic, st.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		sp := kmsg.NewFetchResponseTopicPartition()
		sp.HighWatermark, sp.LastStableOffset, sp.RecordBatches = 10, 10, bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 2}, 40)
		st.Partitions = append(st.Partitions, sp)
		resp.Topics = append(resp.Topics, st)
		broken = false
		return resp, nil, true
	})
	r := reader(t, cfg)
	r.Add(tp, 0)
	await(t, r, func(f Fetch) bool { return errors.Is(f.Err, ErrCorrupt) && f.Next == 0 })
	equal(t, readAll(t, r, tp, 10), values(0, 10))
}

func TestLeaderMoves(t *testing.T) {
	t.Parallel()
	c, cfg := fake(t, kfake.NumBrokers(3))
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	write(t, cfg, tp, numbered(0, 5))
	r := reader(t, cfg)
	r.Add(tp, 0)
	got := readAll(t, r, tp, 5)
	for i := range 3 {
		if err := c.MoveTopicPartition(tp.Topic, 0, int32(i)); err != nil {
			t.Fatal(err)
		}
		write(t, cfg, tp, numbered(5+i, 6+i))
		got = append(got, readAll(t, r, tp, int64(6+i))...)
	}
	equal(t, got, values(0, 8))
}

// A broker that goes away is told of after a few tries, and read on from the exact offset once it is back.
func TestBrokerAwayAndBack(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	up := func() *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := up()
	cfg := Default()
	cfg.Brokers = c.ListenAddrs()
	tp := TP{newTopic(t, cfg, 1, nil), 0}
	write(t, cfg, tp, numbered(0, 7))
	r := reader(t, cfg)
	r.Add(tp, 0)
	equal(t, readAll(t, r, tp, 7), values(0, 7))
	c.Close()
	await(t, r, func(f Fetch) bool { return errors.Is(f.Err, ErrUnavailable) && f.Next == 7 })
	c = up()
	defer c.Close()
	write(t, cfg, tp, numbered(7, 9))
	var got []string
	await(t, r, func(f Fetch) bool {
		for _, rec := range f.Records {
			got = append(got, string(rec.Value))
		}
		return f.Err == nil && f.Next == 9 && f.Next == f.End
	})
	equal(t, got, values(7, 9))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestPollAfterClose(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	r := reader(t, cfg)
	go func() {
		time.Sleep(20 * time.Millisecond)
		r.Close()
	}()
	if _, err := r.Poll(within(t)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
