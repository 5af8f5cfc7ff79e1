//go:build unix

package servers

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Packages are those that the tests of the repository need, so that one Python will do for all of them.
var Packages = []string{"confluent-kafka", "duckdb", "fastavro", "pyarrow", "redis"}

// Python returns the path of a Python that has the packages, given as pip takes them (duckdb, or duckdb==1.5.6): the python3 on PATH if it
// has them all and no version is asked for, else one of its own with just them, kept for the next time.
func Python(t testing.TB, packages ...string) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3", err)
	}
	if hasPackages(python, packages) {
		return python
	}
	version, err := exec.Command(python, "-c", "import sys; print(sys.version)").Output()
	if err != nil {
		missing(t, "python3", err)
	}
	sorted := slices.Sorted(slices.Values(packages))
	dir, err := cached("python-"+digest(append(sorted, string(version))...), func(dir string) error {
		if err := run(dir, python, "-m", "venv", dir); err != nil {
			return err
		}
		return run(dir, filepath.Join(dir, "bin", "python3"), append(pip, sorted...)...)
	})
	if err != nil {
		missing(t, "Python with "+strings.Join(packages, ", "), err)
	}
	return filepath.Join(dir, "bin", "python3")
}

var pip = []string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"}

// pipTarget unpacks a package into a directory, without what it depends on.
func pipTarget(dir, name string) error {
	return run(dir, "python3", append(slices.Clone(pip), "--no-deps", "--root-user-action=ignore", "--target", dir, name)...)
}

var packageName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// hasPackages asks a Python whether it can import packages, whose modules are called like them.
func hasPackages(python string, packages []string) bool {
	for _, name := range packages {
		if !packageName.MatchString(name) {
			return false
		}
		module := strings.ReplaceAll(name, "-", "_")
		if exec.Command(python, "-c", "import "+module).Run() != nil {
			return false
		}
	}
	return true
}
