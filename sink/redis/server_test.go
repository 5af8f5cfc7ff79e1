package redis

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// server is a Redis that a test talks to.
type server struct {
	addr string
	cmd  *exec.Cmd            // a real one
	mini *miniredis.Miniredis // or the embedded one
}

// findRedis returns the path of a real server's program. CI must have one; elsewhere the test is skipped.
func findRedis(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: apt-get install redis-server", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startRedis starts a real server on a free loopback port, which ends with the test.
func startRedis(t testing.TB, args ...string) *server {
	t.Helper()
	path := findRedis(t, "redis-server")
	return startRedisOn(t, path, freePort(t), t.TempDir(), args...)
}

func startRedisOn(t testing.TB, path string, port int, dir string, args ...string) *server {
	t.Helper()
	s := &server{addr: fmt.Sprintf("127.0.0.1:%d", port)}
	all := append([]string{"--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--dir", dir, "--save", "", "--logfile", filepath.Join(dir, "redis.log")}, args...)
	s.cmd = exec.Command(path, all...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if answers(s.addr) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server %v does not answer after 10 s", all)
		}
	}
}

// answers reports whether a server answers anything at all: LOADING or NOAUTH will do.
func answers(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	n, _ := c.Read(make([]byte, 1))
	return n == 1
}

// stop ends a real server at once, as a crash does.
func (s *server) stop() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// onBoth runs the test on the embedded server and on a real one.
func onBoth(t *testing.T, test func(t *testing.T, s *server)) {
	t.Run("miniredis", func(t *testing.T) {
		m := miniredis.RunT(t)
		test(t, &server{addr: m.Addr(), mini: m})
	})
	t.Run("redis-server", func(t *testing.T) { test(t, startRedis(t)) })
}

// open returns a client of s that closes with the test.
func open(t testing.TB, s *server, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Default()
	cfg.Addr = s.addr
	for _, f := range change {
		f(&cfg)
	}
	c, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
