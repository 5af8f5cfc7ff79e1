package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// outputFlag adds -o with the formats a command knows; the first is the default.
func outputFlag(cmd *cobra.Command, to *string, formats ...string) {
	cmd.Flags().StringVarP(to, "output", "o", formats[0], strings.Join(formats, " or "))
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is there
	}
}

func oneOf(flag, got string, known ...string) error {
	if slices.Contains(known, got) {
		return nil
	}
	return fmt.Errorf("%s %q: it is one of %s", flag, got, strings.Join(known, ", "))
}

// pairs reads the a=b of a repeatable flag.
func pairs(flag, what string, given []string) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range given {
		a, b, ok := strings.Cut(s, "=")
		if !ok || a == "" {
			return nil, fmt.Errorf("%s %q: write %s", flag, s, what)
		}
		if _, twice := m[a]; twice {
			return nil, fmt.Errorf("%s %s is given twice; keep one", flag, a)
		}
		m[a] = b
	}
	return m, nil
}
