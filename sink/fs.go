package sink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// File is an open file of an [FS].
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error          // what was written is durable once it returns nil
	Size() (int64, error) // bytes
}

// FS is the little of a file system that we need, so that tests can put a crashable one below. Names are the operating system's paths.
// A new, linked, renamed or removed name is durable once SyncDir of its directory has returned; a file's bytes once its Sync has.
type FS interface {
	Create(name string) (File, error)   // for reading and writing; truncates
	Append(name string) (File, error)   // for reading and writing at the end; creates
	Open(name string) (File, error)     // for reading
	Link(oldName, newName string) error // fs.ErrExist if newName exists
	Rename(oldName, newName string) error
	Remove(name string) error
	RemoveAll(name string) error
	MkdirAll(dir string) error
	List(dir string) ([]string, error) // names, sorted; none if dir is absent
	Truncate(name string, size int64) error
	SyncDir(dir string) error
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (osFS) Append(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_APPEND)
}

func (osFS) Open(name string) (File, error)         { return open(name, os.O_RDONLY) }
func (osFS) Link(oldName, newName string) error     { return os.Link(oldName, newName) }
func (osFS) Rename(oldName, newName string) error   { return os.Rename(oldName, newName) }
func (osFS) Remove(name string) error               { return os.Remove(name) }
func (osFS) RemoveAll(name string) error            { return os.RemoveAll(name) }
func (osFS) MkdirAll(dir string) error              { return os.MkdirAll(dir, 0o755) }
func (osFS) Truncate(name string, size int64) error { return os.Truncate(name, size) }

func (osFS) List(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// IsDir spares [Dir] from opening each file.
func (osFS) IsDir(name string) (bool, error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}

func (osFS) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
