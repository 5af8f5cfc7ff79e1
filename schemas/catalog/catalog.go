// Package catalog is the feature groups that ship with freshet, and the schemas of their events, as data in the binary.
package catalog

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed *.yaml *.avsc
var files embed.FS

// File returns the text of one file, such as "purchase.avsc".
func File(name string) ([]byte, error) { return files.ReadFile(name) }

// Extract writes the named files, or all where none is named, to dir, which is made if need be. Files of the same names are replaced.
func Extract(dir string, names ...string) error {
	if len(names) == 0 {
		entries, err := files.ReadDir(".")
		if err != nil {
			return err
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of definitions: %w", err)
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("extract %s: %w", name, err)
		}
	}
	return nil
}
