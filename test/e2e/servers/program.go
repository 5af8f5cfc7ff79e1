//go:build unix

package servers

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Program is a program under test, run as a process of its own that can be killed and started again. Its methods are for one goroutine at
// a time, the test's.
type Program struct{ p *process }

// NewProgram prepares a program; Start starts it. It runs in dir, which has its log too: all that it wrote, over all its lives.
func NewProgram(t testing.TB, dir, path string, args ...string) *Program {
	t.Helper()
	p := &process{t: t, name: filepath.Base(path), path: path, args: args, dir: dir, keepLog: true, quit: syscall.SIGKILL, ready: func() error { return nil }}
	t.Cleanup(func() {
		p.end(p.quit)
		if t.Failed() {
			log, _ := os.ReadFile(p.log())
			t.Logf("the end of the log of %s in %s:\n%s", p.name, dir, lastLines(log, 60))
		}
	})
	return &Program{p}
}

// Start starts it and does not wait.
func (g *Program) Start() {
	g.p.t.Helper()
	if err := g.p.begin(); err != nil {
		g.p.t.Fatalf("start %s: %v", g.p.name, err)
	}
}

// Kill ends it at once, as kill -9 does.
func (g *Program) Kill() { g.p.end(syscall.SIGKILL) }

// Pause makes it hang until it is killed.
func (g *Program) Pause() { g.p.signal(syscall.SIGSTOP) }

// Stop asks it to leave by SIGTERM, waits until it has, and returns its exit code, −1 if it did not heed and was killed.
func (g *Program) Stop() int {
	g.p.end(syscall.SIGTERM)
	return g.p.cmd.ProcessState.ExitCode()
}

// Running reports whether it runs.
func (g *Program) Running() bool { return g.p.running() }

// Pid is its process id.
func (g *Program) Pid() int { return g.p.cmd.Process.Pid }

// Log is what it has written so far to its standard output and error, over all its lives.
func (g *Program) Log() string {
	log, _ := os.ReadFile(g.p.log()) // none yet: it has written nothing
	return strings.ToValidUTF8(string(log), "?")
}
