package main

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// goBench runs benchmarks of a package and returns the median of each metric over the repetitions, by benchmark and unit.
func (b *bench) goBench(pkg, pattern, quickTime, fullTime string) (results, error) {
	count, time := "3", fullTime
	if b.quick {
		count, time = "1", quickTime
	}
	out, err := b.output("go", "test", pkg, "-run", "^$", "-bench", pattern, "-benchtime", time, "-count", count)
	if err != nil {
		return nil, err
	}
	r := parseBench(out)
	if len(r) == 0 {
		return nil, missingError(fmt.Sprintf("the benchmark %s of %s was skipped: %s", pattern, pkg, skipReason(out)))
	}
	return r, nil
}

func skipReason(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "_test.go:") {
			_, why, _ := strings.Cut(strings.TrimSpace(line), ": ")
			return why
		}
	}
	return "no reason given"
}

// results are medians by benchmark, without the Benchmark before its name and the number of processors behind it, and by unit.
type results map[string]map[string]float64

// parseBench reads the output of go test -bench.
func parseBench(out string) results {
	all := map[string]map[string][]float64{}
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(words[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		if all[name] == nil {
			all[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil {
				all[name][words[i+1]] = append(all[name][words[i+1]], v)
			}
		}
	}
	r := results{}
	for name, units := range all {
		r[name] = map[string]float64{}
		for unit, values := range units {
			r[name][unit] = median(values)
		}
	}
	return r
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	if n := len(x); n%2 == 0 {
		return (x[n/2-1] + x[n/2]) / 2
	}
	return x[len(x)/2]
}

// need returns a metric, or an error where the benchmark does not report it any more.
func (r results) need(name, unit string) (float64, error) {
	v, ok := r[name][unit]
	if !ok {
		return 0, fmt.Errorf("the benchmark %s reports no %s", name, unit)
	}
	return v, nil
}

// all returns several metrics of one benchmark.
func (r results) all(name string, units ...string) ([]float64, error) {
	values := make([]float64, len(units))
	for i, u := range units {
		var err error
		if values[i], err = r.need(name, u); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// thousands writes a whole number as people read it.
func thousands(x float64) string {
	s := strconv.FormatFloat(x, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
