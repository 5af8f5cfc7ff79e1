// Command freshet computes sliding aggregates of event streams: it serves them from Redis and logs them for training, the same bits in both.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

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
	return root
}
