// Package web serves metrics and health: /metrics, /livez and /readyz?verbose.
package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freshet-dev/freshet/processor"
)

// Server serves until Close.
type Server struct {
	URL  string
	http *http.Server
	done chan struct{}
}

// Listen begins to serve at addr.
func Listen(addr string, metrics prometheus.Gatherer, statuses func() []processor.Status) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w: end what listens there, or set another address", err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), http: &http.Server{Handler: Handler(metrics, statuses), ReadHeaderTimeout: 10 * time.Second}, done: make(chan struct{})}
	go func() { // ended by Close
		defer close(s.done)
		_ = s.http.Serve(l) // it ends with ErrServerClosed
	}()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Handler answers the three paths.
func Handler(metrics prometheus.Gatherer, statuses func() []processor.Status) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		all := statuses()
		bad := 0
		for _, s := range all {
			if !s.Ready() {
				bad++
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if bad > 0 || len(all) == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if _, verbose := r.URL.Query()["verbose"]; verbose {
			for _, s := range all {
				fmt.Fprintln(w, line(s))
			}
		}
		switch {
		case len(all) == 0:
			fmt.Fprintln(w, "not ready: no partition is assigned yet")
		case bad > 0:
			fmt.Fprintf(w, "not ready: %d of %d shards\n", bad, len(all))
		default:
			fmt.Fprintf(w, "ready: %d shards\n", len(all))
		}
	})
	return mux
}

func line(s processor.Status) string {
	mark := "[+]"
	if !s.Ready() {
		mark = "[-]"
	}
	text := fmt.Sprintf("%s %s %s position=%d end=%d", mark, s.Shard, s.Phase, s.Position, s.End)
	if s.Clock > 0 {
		text += " clock=" + time.UnixMilli(s.Clock).UTC().Format(time.RFC3339Nano)
	}
	if s.Limited != "" {
		text += " limited: feature " + s.Limited + " is null for an entity beyond its limit"
	}
	if s.Err != "" {
		text += " error: " + s.Err
	}
	return text
}
