package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/demo"
)

func newDemo() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything at work on this machine, without any server",
		Long: `Start a broker, a schema registry and a Redis in this process, publish the purchases and sessions of 2,000 made-up shoppers to them (120 days of
history played fast, then live), run the service on them, and show what goes in, what comes out, and how one shopper's features change and decay. It says
what to type in a second terminal. Without a terminal it prints plain lines.

With --dir everything is kept in a directory, and a later demo over it goes on where that one ended, however it ended.`,
		Example: `  freshet demo
  freshet demo --for 30s
  freshet demo --dir ./demo --seed 7 --rate 200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out, o.Command = cmd.OutOrStdout(), calledAs(os.Args[0])
			return demo.Shop(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 0, "end after this long, with a summary; 0: when told to (Ctrl-C)")
	f.StringVar(&o.Dir, "dir", "", "directory for everything, which is kept (default: a temporary one)")
	f.Uint64Var(&o.Seed, "seed", 1, "of the made-up shoppers: the same seed, the same events")
	f.Float64Var(&o.Rate, "rate", 20, "live records a second")
	return cmd
}

// calledAs is how the user calls this program.
func calledAs(arg0 string) string {
	dir, name := filepath.Split(arg0)
	if !strings.Contains(dir, string(filepath.Separator)+"go-build") { // where `go run` puts it
		return arg0
	}
	if _, err := os.Stat(filepath.Join("cmd", name, "main.go")); err == nil {
		return "go run ./cmd/" + name
	}
	return "go run ."
}
