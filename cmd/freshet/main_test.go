package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write the golden help texts anew")

// result is what a command line left behind.
type result struct {
	code     int
	out, err string
}

func cli(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := execute(t.Context(), args, streams{strings.NewReader(stdin), &out, &err})
	return result{code, out.String(), err.String()}
}

// want checks the exit code, and that the output and the errors hold texts.
func (r result) want(t testing.TB, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
		t.Errorf("exit %d, wanted %d\nout: %s\nwanted: %s\nerr: %s\nwanted: %s", r.code, code, r.out, out, r.err, err)
	}
}

// commands are all that a user can call.
func commands() []*cobra.Command {
	root := newRoot()
	return append([]*cobra.Command{root}, root.Commands()...)
}

func TestHelpTexts(t *testing.T) {
	for _, c := range commands() {
		if c.Name() == "help" {
			continue
		}
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no examples, or says not what it does", c.CommandPath())
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		r := cli(t, "", args...)
		r.want(t, 0, "Examples:\n"+c.Example, "")
		name := filepath.Join("testdata", "help", c.Name()+".txt")
		if *update {
			if err := os.WriteFile(name, []byte(r.out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(golden) != r.out {
			t.Errorf("freshet %s says\n%s\nand %s\n%s\nrun with -update if that is meant", strings.Join(args, " "), r.out, name, golden)
		}
		for _, line := range strings.Split(strings.Replace(r.out, c.Example, "", 1), "\n") {
			if n := len([]rune(line)); n > helpColumns && !strings.Contains(line, c.Short) {
				t.Errorf("%s: a line of %d characters: %s", c.Name(), n, line)
			}
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Chdir(t.TempDir())
	csv := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	csv("a.csv", "customer,day,usd\n1,2026-01-01,5\n")
	csv("purchase.avsc", `{"type":"record","name":"P","fields":[{"name":"user_id","type":"string"},{"name":"event_time","type":"long"}]}`)
	for _, c := range []struct{ args, want string }{
		{"get user_purchases", "requires at least 2 arg"},
		{"get g u -o xml", `-o "xml": it is one of table, json`},
		{"get g u --version -1", "versions begin at 1"},
		{"get g u --redis 127.0.0.1:1", "127.0.0.1:1"},
		{"get g u -c none.yaml", "none.yaml"},
		{"get g u --redis 127.0.0.1:1 --definitions none", "none"},
		{"lint none", "none"},
		{"lint", "schemas/catalog"},
		{"lint -o yaml", "one of text, json"},
		{"produce a.csv", `required flag(s) "topic" not set`},
		{"produce a.csv --topic t", "give --schema FILE.avsc, or -c"},
		{"produce a.csv --topic t --schema none.avsc", "--schema: open none.avsc"},
		{"produce a.csv --topic t --schema purchase.avsc", "such as --key user_id"},
		{"produce a.csv --topic t --schema purchase.avsc --key user_id", "give --registry URL, or --schema-id"},
		{"produce none.csv --topic t --schema purchase.avsc --key user_id --schema-id 1", "none.csv"},
		{"produce a.csv --topic t --map a", "write FIELD=COLUMN"},
		{"produce a.csv --topic t --map a=b --map a=c", "twice"},
		{"produce a.csv --topic t --stamp later", "one of event, now"},
		{"demo --map a=b", "give one with --purchases"},
		{"demo --purchases a.csv --for 3s", "ends when all are worked off"},
		{"demo --purchases none.csv", "none.csv"},
		{"demo --purchases a.csv", "say which column it is with --map user_id=COLUMN; there are customer, day, usd"},
		{"demo --shoppers 0", "is not between"},
		{"completion tcsh", `invalid argument "tcsh"`},
		{"frobnicate", "unknown command"},
		{"run -c none.yaml", "none.yaml"},
	} {
		t.Run(c.args, func(t *testing.T) { cli(t, "", strings.Fields(c.args)...).want(t, 1, "", c.want) })
	}
}

func TestLint(t *testing.T) {
	catalog, err := filepath.Abs("../../schemas/catalog")
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(catalog, "user_purchases.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cli(t, "", "lint", catalog).want(t, 0, "ok: 2 group versions, 57 features, 0 warnings", "")
	cli(t, "", "lint", "-o", "json", "--strict", catalog).want(t, 0, `"problems": []`, "")
	t.Chdir(catalog)
	cli(t, string(good), "lint", "-").want(t, 0, "ok: 1 group version,", "")
	bad := strings.Replace(string(good), "agg: count,", "agg: cuont,", 1)
	cli(t, bad, "lint", "-").want(t, 1, `did you mean "count"`, "")
	cli(t, bad, "lint", "-", "-o", "json").want(t, 1, `"hint": "count"`, "")
	cli(t, strings.Replace(string(good), "purchase.avsc", "none.avsc", 1), "lint", "-").want(t, 1, "no such file in . (--schema-dir)", "")
	// The same group version in a directory and on standard input is the user's affair: each is looked at by itself.
	cli(t, string(good), "lint", ".", "-").want(t, 0, "ok: 3 group versions", "")
}

func TestCompletionCompletes(t *testing.T) {
	cli(t, "", "__complete", "get", "g", "u", "-o", "").want(t, 0, "table\njson\n", "")
	cli(t, "", "__complete", "completion", "").want(t, 0, "bash\nzsh\nfish\npowershell\n", "")
}

func TestCalledAs(t *testing.T) {
	for _, c := range [][2]string{
		{"/usr/bin/freshet", "/usr/bin/freshet"}, {"./freshet", "./freshet"}, {"freshet", "freshet"}, {"/tmp/go-build12/b001/exe/freshet", "go run ."},
	} {
		if got := calledAs(c[0]); got != c[1] {
			t.Errorf("%s is called as %s", c[0], got)
		}
	}
	t.Chdir("../..")
	if got := calledAs("/tmp/go-build12/b001/exe/freshet"); got != "go run ./cmd/freshet" {
		t.Errorf("%s", got)
	}
}

// background runs a command line until its context ends.
func background(ctx context.Context, args ...string) (out *syncBuffer, done chan int) {
	out, done = &syncBuffer{}, make(chan int, 1)
	go func() { done <- execute(ctx, args, streams{strings.NewReader(""), out, out}) }() // awaited by the caller
	return out, done
}
