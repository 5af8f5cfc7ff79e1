//go:build unix

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// process is a server that can be started again after it ended. Its methods are for one goroutine at a time, the test's.
type process struct {
	t     testing.TB
	name  string // in messages
	path  string
	args  []string
	env   []string       // beside the test's own
	dir   string         // where it runs and has its log
	quit  syscall.Signal // what ends it with the test
	ready func() error

	keepLog bool // a new life appends to the log of those before

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// launch starts servers for the duration of the test and waits until all are ready. All begin before any is waited for: a cluster is ready
// when most of it is.
func launch(t testing.TB, servers ...*process) {
	t.Helper()
	for _, p := range servers {
		t.Cleanup(func() {
			p.end(p.quit)
			if t.Failed() {
				log, _ := os.ReadFile(p.log())
				t.Logf("the end of the log of %s:\n%s", p.name, lastLines(log, 40))
			}
		})
		if err := p.begin(); err != nil {
			t.Fatalf("start %s: %v", p.name, err)
		}
	}
	for _, p := range servers {
		if err := p.wait(); err != nil {
			t.Fatalf("start %s: %v", p.name, err)
		}
	}
}

func (p *process) log() string { return filepath.Join(p.dir, "log") }

// restart starts the process and waits until it is ready; one that runs is stopped first.
func (p *process) restart() {
	p.t.Helper()
	p.end(syscall.SIGTERM)
	if err := p.begin(); err != nil {
		p.t.Fatalf("restart %s: %v", p.name, err)
	}
	if err := p.wait(); err != nil {
		p.t.Fatalf("restart %s: %v", p.name, err)
	}
}

// begin starts the process and does not wait.
func (p *process) begin() error {
	mode := os.O_TRUNC
	if p.keepLog {
		mode = os.O_APPEND
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_WRONLY|mode, 0o644)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Env = p.dir, append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = attributes()
	p.done = make(chan struct{})
	started := make(chan error)
	// The kernel ends the child when the thread that started it ends, so that thread waits here as long as the child lives.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer log.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // however it ended: wait tells
		}
	}()
	return <-started
}

// wait waits until the process is ready, or has ended.
func (p *process) wait() error {
	for deadline := time.Now().Add(readyTimeout); ; {
		err := p.ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %v", p.cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w", readyTimeout, err)
		}
	}
}

func (p *process) running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process and what it started, if it runs.
func (p *process) signal(s syscall.Signal) {
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may end at this moment
	}
}

// end ends the process with a signal and waits until it has; a process that does not heed it is killed.
func (p *process) end(s syscall.Signal) {
	if !p.running() {
		return
	}
	if s != syscall.SIGKILL { // which a paused process heeds, and only that: it must not get on before it
		p.signal(syscall.SIGCONT)
	}
	p.signal(s)
	select {
	case <-p.done:
	case <-time.After(endTimeout):
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}
