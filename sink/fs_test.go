package sink

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// memFS is Pebble's crashable file system in memory as an FS.
type memFS struct{ *vfs.MemFS }

type memFile struct{ vfs.File }

func (f memFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func asFile(f vfs.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return memFile{f}, nil
}

func (m memFS) Create(name string) (File, error) { return asFile(m.MemFS.Create(name, "")) }
func (m memFS) Open(name string) (File, error)   { return asFile(m.MemFS.Open(name)) }
func (m memFS) MkdirAll(dir string) error        { return m.MemFS.MkdirAll(dir, 0o755) }

func (m memFS) Append(name string) (File, error) {
	f, err := m.MemFS.OpenReadWrite(name, "")
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, f); err != nil { // reading and writing share a position
		return nil, err
	}
	return memFile{f}, nil
}

func (m memFS) List(dir string) ([]string, error) {
	names, err := m.MemFS.List(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return names, err
}

func (m memFS) Truncate(name string, size int64) error {
	return fs.ErrInvalid // objects are never truncated
}

func (m memFS) SyncDir(dir string) error {
	f, err := m.MemFS.OpenDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func TestOS(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f, err := OS.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"hello, ", "world"} {
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := OS.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	if f, err = OS.Append(path); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 6)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "hello!" {
		t.Errorf("%q, %v", b, err)
	}
	if n, err := f.Size(); n != 6 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := OS.Link(path, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := OS.Link(path, filepath.Join(dir, "b")); !os.IsExist(err) {
		t.Errorf("a second link: %v", err)
	}
	if names, err := OS.List(filepath.Join(dir, "absent")); len(names) != 0 || err != nil {
		t.Errorf("%v, %v in a directory that is not there", names, err)
	}
}
