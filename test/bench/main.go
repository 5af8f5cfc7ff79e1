// Command bench measures freshet on this machine and prints a table: the rate of the spine, what its parts cost beside others' that do the same, how long an
// event takes to be readable in Redis, how long a killed process takes to catch up, and what state and memory it needs.
//
//	go run ./test/bench                              # everything
//	go run ./test/bench -quick                       # a shorter form, under 3 minutes
//	go run ./test/bench -only 'spine|reader'         # some of it
//	go run ./test/bench -o test/bench/RESULTS.md -cdnow purchases.csv.gz
//
// Each part runs in processes of its own, one after the other. Every figure is measured in this run; what is called a ratio was measured in
// turns, so that load on the machine bears on both sides. It needs Go, and redis-server for the parts that name it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// row is a line of the table.
type row struct{ what, figure, note string }

// bench is one run.
type bench struct {
	ctx   context.Context
	root  string // of the repository
	dir   string // temporary
	quick bool
	cdnow string // file; empty: none
}

// parts are measured in this order.
var parts = []struct {
	name    string
	measure func(*bench) ([]row, error)
}{
	{"spine", spine},
	{"catalog", catalogRatio},
	{"decode", decode},
	{"redis", redisWrites},
	{"reader", reader},
	{"log", logWriter},
	{"live", live},
	{"state", stateBytes},
	{"stores", stores},
	{"cdnow", cdnow},
}

func init() {
	runtime.LockOSThread() // children end with the thread that started them: main's lives as long as the process
}

func main() {
	if len(os.Args) > 1 && children[os.Args[1]] != nil {
		if err := children[os.Args[1]](os.Args[2:]); err != nil {
			fail(err)
		}
		return
	}
	var b bench
	out := flag.String("o", "", "write the table to this file too")
	only := flag.String("only", "", "regular expression of the parts to measure: spine catalog decode redis reader log live state stores cdnow")
	flag.BoolVar(&b.quick, "quick", false, "fewer events and repetitions")
	flag.StringVar(&b.cdnow, "cdnow", "", "the CDNOW purchases (customer_id,date,cds,amount_usd as CSV or CSV.gz) to play through `freshet demo`")
	flag.Parse()
	chosen, err := regexp.Compile("^(" + *only + ")$")
	if err == nil {
		err = b.run(func(name string) bool { return *only == "" || chosen.MatchString(name) }, *out)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// children are what this program is in other processes.
var children = map[string]func(args []string) error{"broker": broker, "catalog": catalogChild}

// run measures the parts that are chosen.
func (b *bench) run(chosen func(name string) bool, out string) (err error) {
	var stop context.CancelFunc
	b.ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if b.root, err = repository(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "freshet-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	machine, began := describe(b.ctx, b.root), time.Now()
	var table strings.Builder
	fmt.Fprint(&table, "| part | measured | figure | remarks |\n|---|---|---|---|\n")
	failed := 0
	for _, p := range parts {
		if !chosen(p.name) {
			continue
		}
		at := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s …", p.name)
		rows, err := p.measure(b)
		fmt.Fprintf(os.Stderr, " %.0f s\n", time.Since(at).Seconds())
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		var missing missingError
		switch {
		case errors.As(err, &missing):
			rows = append(rows, row{"", "not measured", err.Error()})
		case err != nil:
			failed++
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", p.name, err)
			rows = append(rows, row{"", "failed", firstLine(err.Error())})
		}
		for _, r := range rows {
			fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", p.name, r.what, r.figure, r.note)
		}
	}
	text := machine.head(b.quick, time.Since(began)) + table.String()
	fmt.Print(text)
	if out != "" {
		err = os.WriteFile(out, []byte(text+reading), 0o644)
	}
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d parts failed", failed))
	}
	return err
}

// missingError is why a part cannot be measured on this machine.
type missingError string

func (e missingError) Error() string { return string(e) }

// repository is where this program's sources are: it builds and tests others from there.
func repository() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/freshet-dev/freshet").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository (run this inside of it): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build compiles a command of the repository.
func (b *bench) build(pkg string) (string, error) {
	path := filepath.Join(b.dir, filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	_, err := b.output("go", "build", "-o", path, pkg)
	return path, err
}

// output runs a command in the repository to its end. Its error ends with what the command said last.
func (b *bench) output(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Dir = b.root
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	cmd.SysProcAttr = endWithUs()
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, lastLine(text.String()))
	}
	return text.String(), err
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
