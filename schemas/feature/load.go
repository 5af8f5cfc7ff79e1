package feature

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Load compiles the definitions in files and directories (all *.yaml and *.yml below them, in the order of their names; what begins with
// a dot is passed over). Schema files are relative to the definition that names them. The problems are those of all files at once, two
// files of one group version among them; the plans are those without errors. The error is of what could not be read at all.
func Load(paths []string) ([]*Plan, Problems, error) {
	files, err := definitionFiles(paths)
	if err != nil {
		return nil, nil, err
	}
	var plans []*Plan
	var problems Problems
	type name struct {
		group   string
		version int
	}
	seen := map[name]string{}
	for _, file := range files {
		text, err := readLimited(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read definition: %w", err)
		}
		plan, found := Parse(file, text, func(name string) ([]byte, error) { return readSchema(file, name) })
		problems = append(problems, found...)
		if plan == nil {
			continue
		}
		key := name{plan.Group, plan.Version}
		if other, ok := seen[key]; ok {
			problems = append(problems, Problem{File: file, Line: plan.line, Column: 1, Severity: Error,
				Message: fmt.Sprintf("group %s version %d is declared in %s, too", plan.Group, plan.Version, other),
				Mend:    fmt.Sprintf("give one of them another name, or `version: %d`", plan.Version+1)})
			continue
		}
		seen[key] = file
		plans = append(plans, plan)
	}
	return plans, problems, nil
}

// definitionFiles lists the files to read, each once.
func definitionFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("find definitions: %w", err)
		}
		if !info.IsDir() {
			files = append(files, filepath.Clean(path))
			continue
		}
		before := len(files)
		err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case strings.HasPrefix(entry.Name(), ".") && file != path && entry.IsDir():
				return filepath.SkipDir
			case strings.HasPrefix(entry.Name(), ".") || entry.IsDir():
				return nil
			}
			if ext := filepath.Ext(file); ext == ".yaml" || ext == ".yml" {
				files = append(files, filepath.Clean(file))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("find definitions: %w", err)
		}
		if len(files) == before {
			return nil, fmt.Errorf("find definitions: %s has no *.yaml file: name a directory that has, or a file", path)
		}
	}
	var once []string
	for _, file := range files {
		if !slices.Contains(once, file) {
			once = append(once, file)
		}
	}
	return once, nil
}

// readLimited reads a file; of one that is too large it reads just enough for that to be seen.
func readLimited(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	return text, errors.Join(err, f.Close())
}

func readSchema(definition, name string) ([]byte, error) {
	if filepath.IsAbs(name) {
		return nil, errors.New("it is an absolute path")
	}
	text, err := readLimited(filepath.Join(filepath.Dir(definition), filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no such file")
	}
	return text, err
}
