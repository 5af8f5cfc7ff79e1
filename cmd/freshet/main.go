// Command freshet computes sliding aggregates of event streams: it serves them from Redis and logs them for training, the same bits in both.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is main with its exit code: 0 well, 1 an error, others as the verbs say.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return execute(ctx, args, streams{os.Stdin, os.Stdout, os.Stderr})
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// execute runs one command line.
func execute(ctx context.Context, args []string, s streams) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	var exit exitError
	if errors.As(err, &exit) {
		code, err = exit.code, exit.error
	}
	if err != nil {
		fmt.Fprintln(s.err, "freshet:", err)
	}
	return code
}

// exitError ends the process with a code of its own.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "freshet",
		Short: "Exact, fresh features from event streams: served from Redis, logged for training, the same bits in both",
		Long: `freshet consumes events from Kafka, keeps exact sliding aggregates for each entity, writes them to Redis as they change, and logs every version
to Parquet, so that training sets see what serving saw.`,
		Example:       "  freshet demo --for 30s\n  freshet run -c freshet.yaml\n  freshet get user_purchases u000017 -c freshet.yaml",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true // newCompletion has examples
	root.AddCommand(newRun(), newDemo(), newProduce(), newGet(), newLint(), newSchema(), newVersion(), newCompletion())
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpColumns)))
	for _, c := range append(root.Commands(), root) {
		c.Long = fold(c.Long, helpColumns)
	}
	return root
}

// helpColumns is how wide help is, but for the examples, which are to be copied.
const helpColumns = 80

// fold breaks the lines of each paragraph anew, at most columns wide.
func fold(text string, columns int) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		var b strings.Builder
		used := 0
		for _, word := range strings.Fields(p) {
			n := utf8.RuneCountInString(word)
			switch {
			case used == 0:
			case used+1+n > columns:
				b.WriteByte('\n')
				used = 0
			default:
				b.WriteByte(' ')
				used++
			}
			b.WriteString(word)
			used += n
		}
		paragraphs[i] = b.String()
	}
	return strings.Join(paragraphs, "\n\n")
}
