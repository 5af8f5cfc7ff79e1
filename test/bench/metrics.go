package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"sort"
	"strconv"
	"strings"
)

// metrics are samples by name and labels, as /metrics prints them.
type metrics map[string]float64

func parseMetrics(text string) metrics {
	m := metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			m[line[:i]] = v
		}
	}
	return m
}

// scrape reads the metrics of a running service.
func scrape(ctx context.Context, addr string) (metrics, error) {
	text, code, err := get(ctx, "http://"+addr+"/metrics")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/metrics answers %d", code)
	}
	return parseMetrics(text), err
}

func get(ctx context.Context, url string) (text string, code int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return string(body), resp.StatusCode, err
}

// sum adds up the samples of a name over all labels.
func (m metrics) sum(name string) float64 {
	var s float64
	for k, v := range m {
		if base, _, _ := strings.Cut(k, "{"); base == name {
			s += v
		}
	}
	return s
}

// quantile of what a histogram saw since before, interpolated within its bucket.
func (m metrics) quantile(before metrics, name string, q float64) float64 {
	counts := map[float64]float64{} // cumulative, by upper bound
	for k, v := range m {
		base, labels, _ := strings.Cut(k, "{")
		_, le, ok := strings.Cut(labels, `le="`)
		if base != name+"_bucket" || !ok {
			continue
		}
		bound, err := strconv.ParseFloat(le[:strings.IndexByte(le, '"')], 64)
		if err == nil {
			counts[bound] += v - before[k]
		}
	}
	bounds := make([]float64, 0, len(counts))
	for b := range counts {
		bounds = append(bounds, b)
	}
	sort.Float64s(bounds)
	if len(bounds) == 0 {
		return math.NaN()
	}
	rank, low, below := q*counts[bounds[len(bounds)-1]], 0.0, 0.0
	for _, b := range bounds {
		if counts[b] >= rank {
			if math.IsInf(b, 1) || counts[b] == below {
				return low
			}
			return low + (b-low)*(rank-below)/(counts[b]-below)
		}
		low, below = b, counts[b]
	}
	return low
}
