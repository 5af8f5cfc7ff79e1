package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/freshet-dev/freshet"

// A tree is the repository, or a planted piece of one, read and parsed.
type tree struct {
	files []file
	top   []string // names at the top level, ignored ones left out
}

// file is one file of a tree.
type file struct {
	path   string // from the root, with slashes
	text   []byte
	syntax *ast.File // of a Go file
	set    *token.FileSet
}

// ignored are the paths that .gitignore leaves out; a test compares the two.
var ignored = []string{"/data/", "/freshet", "*.test", "*.out"}

func isIgnored(name string, dir bool) bool {
	for _, p := range ignored {
		switch {
		case strings.HasPrefix(p, "*") && strings.HasSuffix(name, p[1:]):
			return true
		case dir && "/"+name+"/" == p, !dir && "/"+name == p:
			return true
		}
	}
	return false
}

// readTree reads all files below root but git's own and those that are ignored.
func readTree(root fs.FS) (*tree, error) {
	t := &tree{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case name == ".git" || isIgnored(name, d.IsDir()):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if path.Dir(name) == "." {
			t.top = append(t.top, name)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := readFile(root, name)
		if err != nil {
			return err
		}
		t.files = append(t.files, f)
		return nil
	})
	return t, err
}

func readFile(root fs.FS, name string) (file, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return file{}, err
	}
	f := file{path: name, text: text}
	if path.Ext(name) == ".go" && !strings.Contains("/"+name, "/testdata/") {
		f.set = token.NewFileSet()
		if f.syntax, err = parser.ParseFile(f.set, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return file{}, fmt.Errorf("parse: %w", err)
		}
	}
	return f, nil
}

// dir is the directory of the file, "" at the top.
func (f *file) dir() string {
	if d := path.Dir(f.path); d != "." {
		return d
	}
	return ""
}

// isGo reports whether the file is Go that is built; isProduct whether it is part of what we ship: neither a test nor below test/.
func (f *file) isGo() bool { return f.syntax != nil }

func (f *file) isProduct() bool {
	return f.isGo() && !strings.HasSuffix(f.path, "_test.go") && !within(f.dir(), "test")
}

// at says where a node is.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.set.Position(n.Pos()).Line)
}

// imports calls fn for each import of the file.
func (f *file) imports(fn func(spec *ast.ImportSpec, imported string)) {
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			fn(spec, p)
		}
	}
}

// within reports whether dir is parent or below it.
func within(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }

// ours returns the directory of a package of this module.
func ours(imported string) (dir string, ok bool) {
	if imported == module {
		return "", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// A rule returns what breaks it, one line each, with the place.
type rule struct {
	name  string
	check func(t *tree) []string
}

var rules = []rule{
	{"import directions", directions},
	{"foreign systems", fences},
	{"read side", readSide},
	{"sizes", sizes},
	{"sleep", sleep},
	{"package names", packageNames},
	{"top level", topLevel},
	{"machine paths", machinePaths},
	{"metrics", metrics},
}

const (
	maxFileLines     = 800
	maxFunctionLines = 75 // "about 70"
)

func sizes(t *tree) (found []string) {
	for _, f := range t.files {
		if !f.isGo() {
			continue
		}
		if n := bytes.Count(f.text, []byte("\n")); n > maxFileLines {
			found = append(found, fmt.Sprintf("%s: %d lines; at most %d", f.path, n, maxFileLines))
		}
		if !f.isProduct() {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if fn, ok := n.(*ast.FuncDecl); ok {
				if lines := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1; lines > maxFunctionLines {
					found = append(found, fmt.Sprintf("%s: function %s has %d lines; about 70 at most", f.at(fn), fn.Name, lines))
				}
			}
			return true
		})
	}
	return found
}

// sleep: what waits must end when it is told to; a select on a timer does.
func sleep(t *tree) (found []string) {
	for _, f := range t.files {
		if !f.isProduct() {
			continue
		}
		name := ""
		f.imports(func(spec *ast.ImportSpec, imported string) {
			if imported == "time" {
				name = "time"
				if spec.Name != nil {
					name = spec.Name.Name
				}
			}
		})
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == name {
					found = append(found, f.at(s)+": time.Sleep; wait in a select with the context, or with a back-off that does")
				}
			}
			return true
		})
	}
	return found
}

var emptyNames = []string{"base", "common", "core", "helper", "helpers", "lib", "manager", "misc", "shared", "tools", "types", "util", "utils"}

func packageNames(t *tree) (found []string) {
	for _, f := range t.files {
		if !f.isGo() {
			continue
		}
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if slices.Contains(emptyNames, name) || slices.Contains(emptyNames, path.Base(f.dir())) {
			found = append(found, fmt.Sprintf("%s: package %s; name it after the one thing it is", f.path, name))
		}
	}
	return found
}

var topLevelNames = []string{"cmd", "processor", "state", "sink", "schemas", "deploy", "test", "go.mod", "go.sum", "README.md"}

func topLevel(t *tree) (found []string) {
	for _, name := range t.top {
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevelNames, name) {
			found = append(found, fmt.Sprintf("%s: the top level holds only %s and dot-files", name, strings.Join(topLevelNames, " ")))
		}
	}
	return found
}

// machinePath is a path of somebody's machine. It is put together here so as not to match itself.
var machinePath = regexp.MustCompile(`(?:^|[^A-Za-z0-9_.~*-])(/(?:wo` + `rk|ro` + `ot|ho` + `me|Us` + `ers)/[A-Za-z0-9_.-]+)`)

func machinePaths(t *tree) (found []string) {
	for _, f := range t.files {
		if bytes.IndexByte(f.text, 0) >= 0 {
			continue
		}
		for i, line := range bytes.Split(f.text, []byte("\n")) {
			if m := machinePath.FindSubmatch(line); m != nil {
				found = append(found, fmt.Sprintf("%s:%d: %s is a path of one machine", f.path, i+1, m[1]))
			}
		}
	}
	return found
}
