package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands and flags in a shell",
		Long: `Print the completion script of a shell. For this session only: source <(freshet completion bash). For all sessions write it where the
shell looks for completions: ~/.local/share/bash-completion/completions/freshet, a directory of zsh's $fpath as _freshet, or
~/.config/fish/completions/freshet.fish.`,
		Example: `  freshet completion bash
  freshet completion zsh
  freshet completion fish
  freshet completion powershell`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return fmt.Errorf("no completion for %q", args[0])
		},
	}
}
