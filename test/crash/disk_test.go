package crash

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/freshet-dev/freshet/sink"
)

// disk is the disk of one life. Everything the service does to it passes watch, which may pull the plug before or after any operation; from
// then on the disk takes nothing more. It is a sink.FS; state gives the same disk to Pebble.
type disk struct {
	mem   *vfs.MemFS
	gate  sync.RWMutex // MemFS.Link takes its lock twice: a clone must not come between
	dead  atomic.Bool
	watch func(op operation)
}

// operation is one that changes the disk.
type operation struct {
	kind  string // create, write, sync, link, remove, removeAll, truncate, syncDir
	path  string // of a link: the new name
	data  []byte // of a write
	after bool   // it has been done
}

var errPower = errors.New("the power is off")

func newDisk(mem *vfs.MemFS, watch func(operation)) *disk { return &disk{mem: mem, watch: watch} }

// clone is what the disk holds after its power went: what was synced, and of the rest each block and name with a chance of percent.
func (d *disk) clone(percent int, r *rand.Rand) *vfs.MemFS {
	d.gate.Lock()
	defer d.gate.Unlock()
	return d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r})
}

// do runs fn as the operation op.
func (d *disk) do(op operation, fn func() error) error {
	if d.dead.Load() {
		return errPower
	}
	d.watch(op)
	if d.dead.Load() {
		return errPower
	}
	d.gate.RLock()
	err := fn()
	d.gate.RUnlock()
	if err != nil {
		return err
	}
	op.after = true
	d.watch(op)
	if d.dead.Load() {
		return errPower
	}
	return nil
}

// file is an open file of a disk.
type file struct {
	vfs.File
	d    *disk
	path string
}

// Size implements sink.File.
func (f *file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Write implements sink.File.
func (f *file) Write(b []byte) (n int, err error) {
	err = f.d.do(operation{kind: "write", path: f.path, data: b}, func() error { n, err = f.File.Write(b); return err })
	return n, err
}

// Sync implements sink.File.
func (f *file) Sync() error {
	return f.d.do(operation{kind: "sync", path: f.path}, f.File.Sync)
}

func (d *disk) open(kind, name string, fn func() (vfs.File, error)) (sink.File, error) {
	var f vfs.File
	err := d.do(operation{kind: kind, path: name}, func() (err error) { f, err = fn(); return err })
	if err != nil {
		return nil, err
	}
	return &file{f, d, name}, nil
}

// Create implements sink.FS.
func (d *disk) Create(name string) (sink.File, error) {
	return d.open("create", name, func() (vfs.File, error) { return d.mem.Create(name, "") })
}

// Append implements sink.FS.
func (d *disk) Append(name string) (sink.File, error) {
	return d.open("append", name, func() (vfs.File, error) {
		f, err := d.mem.OpenReadWrite(name, "")
		if err == nil {
			_, err = io.Copy(io.Discard, f) // reading and writing share a position
		}
		return f, err
	})
}

// Open implements sink.FS.
func (d *disk) Open(name string) (sink.File, error) {
	if d.dead.Load() {
		return nil, errPower
	}
	f, err := d.mem.Open(name)
	if err != nil {
		return nil, err
	}
	return &file{f, d, name}, nil
}

// Link implements sink.FS.
func (d *disk) Link(oldName, newName string) error {
	return d.do(operation{kind: "link", path: newName}, func() error { return d.mem.Link(oldName, newName) })
}

// Rename implements sink.FS.
func (d *disk) Rename(oldName, newName string) error {
	return d.do(operation{kind: "rename", path: newName}, func() error { return d.mem.Rename(oldName, newName) })
}

// Remove implements sink.FS.
func (d *disk) Remove(name string) error {
	return d.do(operation{kind: "remove", path: name}, func() error { return d.mem.Remove(name) })
}

// RemoveAll implements sink.FS.
func (d *disk) RemoveAll(name string) error {
	return d.do(operation{kind: "removeAll", path: name}, func() error { return d.mem.RemoveAll(name) })
}

// MkdirAll implements sink.FS.
func (d *disk) MkdirAll(dir string) error {
	return d.do(operation{kind: "mkdir", path: dir}, func() error { return d.mem.MkdirAll(dir, 0o755) })
}

// List implements sink.FS.
func (d *disk) List(dir string) ([]string, error) {
	if d.dead.Load() {
		return nil, errPower
	}
	names, err := d.mem.List(dir)
	if err != nil && strings.Contains(err.Error(), "not exist") {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}

// IsDir tells sink.Dir what it would else find out by reading.
func (d *disk) IsDir(name string) (bool, error) {
	info, err := d.mem.Stat(name)
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}

// Truncate implements sink.FS. MemFS cannot: the file is written anew, shorter.
func (d *disk) Truncate(name string, size int64) error {
	return d.do(operation{kind: "truncate", path: name}, func() error {
		f, err := d.mem.Open(name)
		if err != nil {
			return err
		}
		data := make([]byte, size)
		if _, err = io.ReadFull(f, data); err != nil {
			return errors.Join(err, f.Close())
		}
		g, err := d.mem.Create(name+".short", "")
		if err != nil {
			return errors.Join(err, f.Close())
		}
		_, err = g.Write(data)
		return errors.Join(err, f.Close(), g.Sync(), g.Close(), d.mem.Rename(name+".short", name))
	})
}

// SyncDir implements sink.FS.
func (d *disk) SyncDir(dir string) error {
	return d.do(operation{kind: "syncDir", path: dir}, func() error {
		f, err := d.mem.OpenDir(dir)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// state is the disk as Pebble sees it. It goes on working when the power is off: what it writes then is on no clone.
type state struct {
	vfs.FS
	d *disk
}

// Create implements vfs.FS.
func (s state) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	op := operation{kind: "create", path: name}
	s.d.watch(op)
	f, err = s.FS.Create(name, category)
	op.after = true
	s.d.watch(op)
	return f, err
}

// Link implements vfs.FS.
func (s state) Link(oldName, newName string) error {
	op := operation{kind: "link", path: newName}
	s.d.watch(op)
	s.d.gate.RLock()
	err := s.FS.Link(oldName, newName)
	s.d.gate.RUnlock()
	op.after = true
	s.d.watch(op)
	return err
}

var _ sink.FS = (*disk)(nil)
