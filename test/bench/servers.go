package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// process is a child that goes on until it is ended.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start starts a program whose output goes to a file of its name. Only main's goroutine may call it: see init.
func (b *bench) start(name, path string, args ...string) (*process, error) {
	p := &process{log: filepath.Join(b.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	p.cmd = exec.CommandContext(b.ctx, path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = b.dir, out, out, endWithUs()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the child
		_ = p.cmd.Wait() // however it ended
		close(p.done)
	}()
	return p, nil
}

// kill ends it as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// ready waits until ok says so; its error has what the process said last.
func (p *process) ready(ctx context.Context, limit time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
			continue
		case <-p.done:
		case <-ctx.Done():
		}
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s did not become ready in %v: %s", filepath.Base(p.log), limit, lastLine(string(text)))
	}
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func accepts(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// redisServer starts a real Redis that keeps nothing on disk.
func (b *bench) redisServer() (*process, string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", missingError("redis-server is not installed")
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr) // it was made by the system
	p, err := b.start("redis-server", path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err != nil {
		return nil, "", err
	}
	if err := p.ready(b.ctx, 10*time.Second, func() bool { return accepts(addr) }); err != nil {
		p.kill()
		return nil, "", err
	}
	return p, addr, nil
}

// brokerServer starts a broker in a process of its own.
func (b *bench) brokerServer() (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p, err := b.start("broker", self, "broker", filepath.Join(b.dir, "broker"))
	if err != nil {
		return nil, "", err
	}
	var addr string
	err = p.ready(b.ctx, 10*time.Second, func() bool {
		text, _ := os.ReadFile(p.log)
		line, whole := strings.CutSuffix(firstLine(string(text))+"\n", "\n")
		addr = line
		return whole && strings.Contains(string(text), "\n")
	})
	if err != nil {
		p.kill()
		return nil, "", err
	}
	return p, addr, nil
}

// broker is the child of brokerServer: a kfake with one topic, in a directory. It prints its address.
func broker(args []string) error {
	if len(args) != 1 {
		return errors.New("broker: name a directory")
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(args[0]), kfake.SeedTopics(partitions, "purchases"), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	if _, err := io.WriteString(os.Stdout, c.ListenAddrs()[0]+"\n"); err != nil {
		return err
	}
	select {} // until it is killed
}
