package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/freshet-dev/freshet/cmd/freshet/internal/show"
	"github.com/freshet-dev/freshet/schemas/feature"
)

// exitStrict is the exit code of lint where there are warnings under --strict.
const exitStrict = 3

func newLint() *cobra.Command {
	var strict bool
	var output, schemaDir string
	cmd := &cobra.Command{
		Use:   "lint [PATH...]",
		Short: "Check the definitions of feature groups",
		Long: `Check definitions in files, in directories (*.yaml below them) and on standard input (-; the schemas it names are looked for in --schema-dir). Left out, PATH is schemas/catalog. All problems are told at once, one a line, as file:line:column: what is wrong; what to do.

Exit code: 0 clean, or warnings only; 1 errors; 3 warnings, with --strict.`,
		Example: `  freshet lint
  freshet lint schemas/catalog/user_purchases.yaml
  freshet lint --strict -o json schemas/catalog
  freshet lint - --schema-dir schemas/catalog < schemas/catalog/user_sessions.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("-o", output, "text", "json"); err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"schemas/catalog"}
			}
			plans, problems, err := lint(args, cmd.InOrStdin(), schemaDir)
			if err != nil {
				return err
			}
			if err := tellLint(cmd.OutOrStdout(), output, plans, problems); err != nil {
				return err
			}
			switch {
			case problems.Errors() > 0:
				return exitError{code: 1}
			case strict && len(problems) > 0:
				return exitError{code: exitStrict}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 3 if there are warnings")
	cmd.Flags().StringVar(&schemaDir, "schema-dir", ".", "directory of the schemas that a definition on standard input names")
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// lint compiles all definitions; - stands for in, whose schemas are in a directory.
func lint(paths []string, in io.Reader, schemaDir string) (plans []*feature.Plan, problems feature.Problems, err error) {
	var files []string
	for _, p := range paths {
		if p != "-" {
			files = append(files, p)
		}
	}
	if len(files) > 0 {
		if plans, problems, err = feature.Load(files); err != nil {
			return nil, nil, err
		}
	}
	if len(files) == len(paths) {
		return plans, problems, nil
	}
	text, err := io.ReadAll(io.LimitReader(in, feature.MaxFileBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read standard input: %w", err)
	}
	plan, found := feature.Parse("-", text, func(name string) ([]byte, error) {
		if filepath.IsAbs(name) {
			return nil, errors.New("it is an absolute path")
		}
		text, err := os.ReadFile(filepath.Join(schemaDir, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no such file in %s (--schema-dir)", schemaDir)
		}
		return text, err
	})
	if plan != nil {
		plans = append(plans, plan)
	}
	return plans, append(problems, found...), nil
}

func tellLint(out io.Writer, output string, plans []*feature.Plan, problems feature.Problems) error {
	if output == "json" {
		if problems == nil {
			problems = feature.Problems{} // [], not null
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Groups   int              `json:"groups"` // compiled without errors
			Errors   int              `json:"errors"`
			Warnings int              `json:"warnings"`
			Problems feature.Problems `json:"problems"`
		}{len(plans), problems.Errors(), len(problems) - problems.Errors(), problems})
	}
	for _, p := range problems {
		fmt.Fprintln(out, p)
	}
	if n := problems.Errors(); n > 0 {
		_, err := fmt.Fprintf(out, "%s, %s\n", show.Plural(int64(n), "error", "errors"), show.Plural(int64(len(problems)-n), "warning", "warnings"))
		return err
	}
	features := 0
	for _, p := range plans {
		features += len(p.Features)
	}
	_, err := fmt.Fprintf(out, "ok: %s, %s, %s\n", show.Plural(int64(len(plans)), "group version", "group versions"),
		show.Plural(int64(features), "feature", "features"), show.Plural(int64(len(problems)), "warning", "warnings"))
	return err
}

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of definition files",
		Long: `Print the JSON Schema (draft-07) of definition files, for editors. With the YAML language server, write it to a file and name that in the first
line of a definition: # yaml-language-server: $schema=freshet.schema.json`,
		Example: "  freshet schema\n  freshet schema > freshet.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(feature.JSONSchema())
			return err
		},
	}
}
