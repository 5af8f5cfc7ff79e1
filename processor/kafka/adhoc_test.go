package kafka
import ("testing";"time";"os";"bytes";"runtime/pprof";"fmt")
func TestAdhoc(t *testing.T) {
	c, cfg := cluster(t); _ = c
	cfg.FetchMaxWait = 250*time.Millisecond
	topic := newTopic(t, cfg, 4, nil)
	p := producer(t, cfg)
	const n = 2_000_000
	begun := time.Now()
	v := bytes.Repeat([]byte("abcdefghij"), 10)
	for i := range n { p.Send(t.Context(), topic, Record{Key: fmt.Appendf(nil, "u%d", i%10000), Value: v, Timestamp: 1700000000000+int64(i)}, ByKey, func(err error){ if err != nil { t.Error(err) } }) }
	if err := p.Flush(t.Context()); err != nil { t.Fatal(err) }
	t.Logf("produce %.0f/s", n/time.Since(begun).Seconds())
	f, _ := os.Create("/tmp/f3.cpu"); pprof.StartCPUProfile(f)
	begun = time.Now()
	r := reader(t, cfg)
	for i := range int32(4) { r.Add(TP{topic, i}, 0) }
	got, polls := 0, 0
	for got < n { fs, err := r.Poll(t.Context()); if err != nil { t.Fatal(err) }; polls++; for _, f := range fs { got += len(f.Records); if f.Err != nil { t.Fatal(f.Err) } } }
	pprof.StopCPUProfile()
	t.Logf("read %.0f/s, %d polls", n/time.Since(begun).Seconds(), polls)
	// latency
	var worst time.Duration; var sum time.Duration
	for i := range 100 { s := time.Now(); p.Produce(t.Context(), topic, []Record{{Key: fmt.Appendf(nil, "%d", i), Value: v}}, ByKey)
		for k := 0; k == 0; { fs, _ := r.Poll(t.Context()); for _, f := range fs { k += len(f.Records) } }; d := time.Since(s); sum += d; worst = max(worst, d) }
	t.Log("latency mean", sum/100, "worst", worst)
}
