package state

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is the file system below a store. It stands between the disk's errors and what Pebble 2.1.7 makes of three of them in goroutines of
// its own, where nobody can recover:
//
//   - a flush that fails is tried again at once and without end: once the store has failed, the next try waits until Close;
//   - an error on the MANIFEST, or on the marker that names it, is fatal, and if Fatalf returns Pebble goes on with tables and version out of
//     step until it panics;
//   - a directory that cannot be synced is a panic.
//
// For the latter two the store fails, and Pebble is told that all is well: its memory stays consistent, and nothing that it says of the disk
// is believed any more, because every method looks at the store's failure last. The directory is never read again.
type fence struct {
	vfs.FS
	s *Store
}

// Create creates a file. See fence.
func (f fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	base := f.PathBase(name)
	vital := strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.")
	switch live := f.PathDir(name) == f.s.dir; {
	case live && vital:
		file, err := f.FS.Create(name, category)
		if err != nil {
			f.s.fail(fmt.Errorf("create %s: %w", base, err))
			if file, err = vfs.NewMem().Create(base, category); err != nil {
				return nil, err
			}
		}
		return fencedFile{file, f.s}, nil
	case live && strings.HasSuffix(base, ".sst"):
		if err := f.s.Err(); err != nil {
			<-f.s.closing
			return nil, err
		}
	}
	return f.FS.Create(name, category)
}

// OpenDir opens a directory. See fence.
func (f fence) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return fencedFile{dir, f.s}, nil
}

// fencedFile is a file or directory whose failed writes are the store's failure, and look well from above.
type fencedFile struct {
	vfs.File
	s *Store
}

func (f fencedFile) swallow(act string, err error) {
	if err != nil {
		f.s.fail(fmt.Errorf("%s: %w", act, err))
	}
}

// Write takes all of p, always.
func (f fencedFile) Write(p []byte) (int, error) {
	_, err := f.File.Write(p)
	f.swallow("write", err)
	return len(p), nil
}

// Sync always returns nil.
func (f fencedFile) Sync() error {
	f.swallow("sync", f.File.Sync())
	return nil
}

// SyncData always returns nil.
func (f fencedFile) SyncData() error {
	f.swallow("sync", f.File.SyncData())
	return nil
}

// SyncTo always returns no error.
func (f fencedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	f.swallow("sync", err)
	return full, nil
}

// Preallocate always returns nil: it only saves time.
func (f fencedFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

// Close always returns nil.
func (f fencedFile) Close() error {
	f.swallow("close", f.File.Close())
	return nil
}

// pebbleLog turns what Pebble considers fatal into a failed store, and passes its errors on.
type pebbleLog struct{ s *Store }

func (l *pebbleLog) Infof(string, ...any) {}

func (l *pebbleLog) Errorf(format string, args ...any) {
	l.s.res.log.Error("state: pebble reports an error", "dir", l.s.dir, "error", fmt.Sprintf(format, args...))
}

func (l *pebbleLog) Fatalf(format string, args ...any) {
	e := &fatalError{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			e.cause = cause
		}
	}
	l.s.fail(e)
}

// fatalError is what Pebble said, with the cause that it only prints.
type fatalError struct {
	text  string
	cause error
}

func (e *fatalError) Error() string { return e.text }
func (e *fatalError) Unwrap() error { return e.cause }
