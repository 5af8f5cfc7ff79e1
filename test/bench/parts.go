package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// spineFloor is the least the spine must reach, in events a second.
const spineFloor = 100_000

var (
	spineRate        = regexp.MustCompile(`days 90–180: (\d+) events/s, ([\d.]+) CPU-s per million`)
	spineMemory      = regexp.MustCompile(`peak RSS (\d+) MB`)
	spineCheckpoints = regexp.MustCompile(`(?m)^.*checkpoint.*$`)
	spineOracle      = regexp.MustCompile(`(?m)^.*oracle.*$`)
)

// spine runs test/bench/spine on both distributions.
func spine(b *bench) (rows []row, err error) {
	path, err := b.build("./test/bench/spine")
	if err != nil {
		return nil, err
	}
	for _, dist := range []string{"U", "Z"} {
		name, args := "10M_1M", []string{"-dist", dist}
		if b.quick {
			name, args = "1M_100k", append(args, "-events", "1000000", "-users", "100000")
		}
		out, err := b.output(path, args...)
		if err != nil {
			return rows, err
		}
		rate, memory := spineRate.FindStringSubmatch(out), spineMemory.FindStringSubmatch(out)
		if rate == nil || memory == nil {
			return rows, fmt.Errorf("cannot read what the spine says: %s", lastLine(out))
		}
		perSecond, _ := strconv.ParseFloat(rate[1], 64) // the pattern has digits only
		note := "floor " + thousands(spineFloor) + ": met"
		if perSecond < spineFloor {
			note = "floor " + thousands(spineFloor) + ": **not met**"
		}
		for _, p := range []*regexp.Regexp{spineCheckpoints, spineOracle} {
			if line := strings.TrimSpace(p.FindString(out)); line != "" {
				note += "; " + line
			}
		}
		rows = append(rows,
			row{dist + " " + name + ", 4 windows × 8 aggregates, 2 shards, event days 90–180", thousands(perSecond) + " events/s", note},
			row{dist + " " + name + ", the process", rate[2] + " CPU-s per million events, peak RSS " + memory[1] + " MB", ""})
	}
	return rows, nil
}

// decode compares the decoder with hamba's structs.
func decode(b *bench) ([]row, error) {
	r, err := b.goBench("./schemas/event", "^BenchmarkDecode$", "0.3s", "1s")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, n := range []string{"4", "10"} {
		ours, err := r.all("Decode/columns="+n, "ns/op", "allocs/op")
		if err != nil {
			return rows, err
		}
		hamba, err := r.all("Decode/hamba="+n, "ns/op", "allocs/op")
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{"decode, " + n + " of 10 columns of a purchase, one core",
			fmt.Sprintf("%.1f M records/s, %.1f × hamba structs", 1e3/ours[0], hamba[0]/ours[0]),
			fmt.Sprintf("hamba %.1f M/s; %.0f and %.0f allocations a record", 1e3/hamba[0], ours[1], hamba[1])})
	}
	return rows, nil
}

// redisWrites compares guarded writes with bare HSETs.
func redisWrites(b *bench) ([]row, error) {
	r, err := b.goBench("./sink/redis", "^BenchmarkWrite$", "10x", "30x")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range [][2]string{{"windows", "1d to 90d, some empty"}, {"none", "all set"}} {
		v, err := r.all("Write/features=20/nulls="+c[0], "rows/s", "bare-rows/s", "ratio", "server-cpu-ratio", "cpu-ratio")
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{"guarded writes of 20 fields (" + c[1] + ") against bare pipelined HSET, redis-server",
			fmt.Sprintf("%s rows/s, %.2f × bare", thousands(v[0]), v[2]),
			fmt.Sprintf("bare %s; per CPU-s of the server %.2f ×, of both sides %.2f ×", thousands(v[1]), v[3], v[4])})
	}
	return rows, nil
}

// reader measures what a ranking service waits for.
func reader(b *bench) ([]row, error) {
	r, err := b.goBench("./sink/redis", "^BenchmarkRead$", "1s", "3s")
	if err != nil {
		return nil, err
	}
	v, err := r.all("Read", "p50-µs", "p99-µs")
	if err != nil {
		return nil, err
	}
	return []row{{"GetFeatureVectors, 100 entities × 50 features in one call, redis-server", fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", v[0]/1e3, v[1]/1e3), "20,000 entities"}}, nil
}

// logWriter measures the encoding of a part.
func logWriter(b *bench) ([]row, error) {
	r, err := b.goBench("./sink/parquet", "^BenchmarkWritePart$", "1x", "3x")
	if err != nil {
		return nil, err
	}
	v, err := r.all("WritePart", "rows/s", "rows/CPU-s", "part-B/row", "peak-MiB")
	if err != nil {
		return nil, err
	}
	return []row{{"row segment of 1 M rows × 29 columns → Parquet part", fmt.Sprintf("%s rows/s, %s rows/CPU-s", thousands(v[0]), thousands(v[1])),
		fmt.Sprintf("%.1f B a row; heap at most %.0f MiB above that before", v[2], v[3])}}, nil
}

// stores opens as many stores as a process may have.
func stores(b *bench) ([]row, error) {
	if b.quick {
		return nil, missingError("not in the quick form")
	}
	r, err := b.goBench("./state", "^BenchmarkManyStores$", "1x", "1x")
	if err != nil {
		return nil, err
	}
	v, err := r.all("ManyStores", "s/open", "MiB")
	if err != nil {
		return nil, err
	}
	return []row{{"1,280 stores opened again in one process, a little in each", fmt.Sprintf("%.1f s, RSS %.0f MiB", v[0], v[1]), "limits: 10 s, 2 GB"}}, nil
}

// cdnow plays a real shop's history through the demo.
func cdnow(b *bench) ([]row, error) {
	if b.cdnow == "" {
		return nil, missingError("give the file with -cdnow")
	}
	file, err := filepath.Abs(b.cdnow)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	path, err := b.build("./cmd/freshet")
	if err != nil {
		return nil, err
	}
	out, err := b.output(path, "demo", "--purchases", file, "--map", "user_id=customer_id", "--map", "event_time=date", "--map", "amount=amount_usd")
	if err != nil {
		return nil, err
	}
	return []row{{"CDNOW, all customers, `freshet demo --purchases`", lastLine(out), ""}}, nil
}
