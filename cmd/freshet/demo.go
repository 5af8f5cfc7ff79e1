package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/demo"
)

func newDemo() *cobra.Command {
	var o demo.Options
	var csv demo.Purchases
	var file string
	var in inputFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything at work on this machine, without any server",
		Long: `Start a broker, a schema registry and a Redis in this process, publish the purchases and sessions of 2,000 made-up shoppers to them (120 days of
history played fast, then live), run the service on them, and show what goes in, what comes out, and how one shopper's features change and decay. It says
what to type in a second terminal. Without a terminal it prints plain lines.

With --dir everything is kept in a directory, and a later demo over it goes on where that one ended, however it ended.

With --purchases it plays a CSV file of purchases instead: history, as fast as it goes. Its columns become the fields user_id, event_time and amount, and
product_id, category, quantity, currency, status and event_id where it has them (--map, --set); without event_id the number of the row is the id. Then
every row of the log is recomputed by the oracle, which knows only the events, and a closing line tells the mismatches. Exit code 1 if there are any.`,
		Example: `  freshet demo
  freshet demo --for 30s
  freshet demo --dir ./demo --seed 7 --rate 200 --for 20s
  freshet demo --purchases orders.csv.gz --map user_id=customer --map event_time=day --map amount=usd --customers 3000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out, o.Command = cmd.OutOrStdout(), calledAs(os.Args[0])
			if file == "" {
				for _, name := range []string{"map", "set", "row-id", "time-format", "as-is", "customers"} {
					if cmd.Flags().Changed(name) {
						return fmt.Errorf("--%s is for a file of purchases: give one with --purchases", name)
					}
				}
				return demo.Shop(cmd.Context(), o)
			}
			for _, name := range []string{"for", "seed", "shoppers", "rate"} {
				if cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s is for the made-up shop: --purchases ends when all are worked off", name)
				}
			}
			var err error
			if csv.Input, err = in.input(file); err != nil {
				return err
			}
			csv.AsIs = in.asIs
			return demo.Play(cmd.Context(), o, csv)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 0, "end after this long, with a summary; 0: when told to (Ctrl-C)")
	f.StringVar(&o.Dir, "dir", "", "directory for everything, which is kept (default: a temporary one)")
	f.Uint64Var(&o.Seed, "seed", 1, "of the made-up shoppers; their times follow the clock")
	f.StringVar(&file, "purchases", "", "CSV file of purchases to play instead, gzipped or not")
	f.IntVar(&csv.Customers, "customers", 0, "only the purchases of the first so many customers in the file; 0: all")
	in.add(cmd)
	f.IntVar(&o.Shoppers, "shoppers", 2000, "how many made-up shoppers")
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
