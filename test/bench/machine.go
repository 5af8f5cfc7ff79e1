package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is what a figure depends on besides the code.
type machine struct {
	cpu     string
	memory  float64 // GiB; 0: unknown
	system  string
	commit  string
	load    float64 // processes that ran or waited to, averaged over the minute before; −1: unknown
	command string
}

func describe(ctx context.Context, root string) machine {
	m := machine{cpu: "unknown CPU", system: runtime.GOOS + "/" + runtime.GOARCH, commit: "unknown", load: loadAverage(), command: command(os.Args[1:])}
	if found := field("/proc/cpuinfo", `model name\s*:\s*(.*)`); found != "" {
		m.cpu = found
	}
	if kb, err := strconv.ParseFloat(field("/proc/meminfo", `MemTotal:\s*(\d+) kB`), 64); err == nil {
		m.memory = kb / (1 << 20)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.system += ", Linux " + strings.TrimSpace(string(release))
	}
	git := func(args ...string) string {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	if c := git("rev-parse", "--short=12", "HEAD"); c != "" {
		m.commit = c
		if git("status", "--porcelain", "--untracked-files=no", "--", "*.go", "go.mod", "go.sum") != "" {
			m.commit += " with changes"
		}
	}
	return m
}

// command is how this program was called, without the directories of this machine.
func command(args []string) string {
	words := []string{"go run ./test/bench"}
	for _, a := range args {
		if filepath.IsAbs(a) {
			a = filepath.Base(a)
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// head is the title of the results, and what they were measured on.
func (m *machine) head(quick bool, took time.Duration) string {
	var b strings.Builder
	b.WriteString("# Measured\n\n")
	fmt.Fprintf(&b, "`%s` at commit %s, %s, in %.0f s. %s; %d cores of %s; %.0f GiB; %s.\n\n", m.command, m.commit,
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), took.Seconds(), runtime.Version(), runtime.NumCPU(), m.cpu, m.memory, m.system)
	if quick {
		b.WriteString("The quick form: fewer events, no repetitions. Good for the order of magnitude.\n\n")
	}
	if m.load > 0.3*float64(runtime.NumCPU()) {
		fmt.Fprintf(&b, "**From a loaded machine** (load average %.1f on %d cores before the start): rates are too low and times too long by a factor of 2 and more, tails by 10 and more; CPU-s and ratios vary by a half; bytes and RSS hold.\n\n",
			m.load, runtime.NumCPU())
	}
	return b.String()
}

// reading follows the table in the file.
const reading = `
Ratios above 1 mean that freshet is the faster one. CPU-s are of the process measured, its garbage collector and compactions included. A
median is of the repetitions of one run; p50 and p99 are of all samples.
`

func loadAverage() float64 {
	if v, err := strconv.ParseFloat(field("/proc/loadavg", `^(\S+)`), 64); err == nil {
		return v
	}
	return -1
}

// field is the first group of a pattern in a file; empty if there is none.
func field(path, pattern string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if found := regexp.MustCompile(pattern).FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return ""
}
