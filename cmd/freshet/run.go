package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/app"
	"github.com/freshet-dev/freshet/cmd/freshet/internal/config"
)

func newRun() *cobra.Command {
	var file string
	var settings, newGeneration []string
	var check, verbose bool
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the service",
		Long: `Run the service until SIGINT or SIGTERM. Then it drains: it takes a last checkpoint and leaves the consumer group, within limits.drain (20s).
A second signal ends it at once; nothing is lost by that, or by kill -9: the next start replays what the last checkpoint does not have.`,
		Example: `  freshet run -c freshet.yaml
  freshet run -c freshet.yaml --check
  freshet run -c freshet.yaml --set kafka.brokers='[10.0.0.5:9092]' --set checkpoint.every=30s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Read(file, settings)
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			if check {
				return app.Check(cmd.Context(), &c, cmd.OutOrStdout(), log)
			}
			s, err := app.New(c, newGeneration, log)
			if err != nil {
				return err
			}
			log.Info("freshet runs", "version", buildVersion(), "groups", len(s.Plans), "http", s.URL(), "data", c.Data)
			go func() { // ends with the process
				<-cmd.Context().Done()
				log.Info("draining", "at_most", c.Limits.DrainLimit)
			}()
			err = s.Run(cmd.Context())
			if err != nil && !(cmd.Context().Err() != nil && errors.Is(err, context.Canceled)) { // told to leave while it was still connecting
				return err
			}
			log.Info("left")
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "configuration file (YAML); left out: defaults and --set")
	f.StringArrayVar(&settings, "set", nil, "one setting on top of the file, as a.b=c (repeatable)")
	f.StringArrayVar(&newGeneration, "new-generation", nil, "GROUP@VERSION whose lost state is begun anew (repeatable)")
	f.BoolVar(&check, "check", false, "validate, connect to everything, print what was found, and exit")
	f.BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  freshet version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "freshet", buildVersion())
			return err
		},
	}
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			version += " " + s.Value[:12]
		}
	}
	return version + " " + info.GoVersion
}
