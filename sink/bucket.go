package sink

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	// ErrExists is returned by [Bucket.PutIfAbsent] where the name is taken.
	ErrExists = errors.New("object exists")
	// ErrNotExist is returned for an object that is not there.
	ErrNotExist = errors.New("object does not exist")
)

// Bucket is where checkpoints, manifests and the log live: a local directory now, an object store later. Names are slash-separated and
// relative. A Bucket may be used by several goroutines and processes at once.
type Bucket interface {
	// PutIfAbsent creates an object, durably; ErrExists if it is there, whatever it holds. Of racing callers exactly one gets nil. Where
	// it could not learn whether it had succeeded it returns another error; the caller then reads back what is there.
	PutIfAbsent(ctx context.Context, name string, data []byte) error
	// Get returns an object, or ErrNotExist.
	Get(ctx context.Context, name string) ([]byte, error)
	// PutFile makes a local file an object, durably. It is idempotent for equal content: name is content-addressed, or the caller's own.
	// The file may become the object (hard link): it must not be written to again, but for appending where readers know the length.
	PutFile(ctx context.Context, name, localPath string) error
	// GetFile makes an object a local file, replacing what is there; ErrNotExist. The file may be the object: it must not be written to.
	GetFile(ctx context.Context, name, localPath string) error
	// Publish makes the object from visible as to, durably. It is idempotent: an object to that is there stays (names are never reused
	// for other content). ErrNotExist if neither is there.
	Publish(ctx context.Context, from, to string) error
	// List returns the names that start with prefix and are greater than after, sorted.
	List(ctx context.Context, prefix, after string) ([]string, error)
	// Delete removes an object; no error if it is not there.
	Delete(ctx context.Context, name string) error
}

// tempDir is the directory below the root of a Dir in which objects are written before they get their name. A file there is named by the
// second it was made and a random text; a crash leaves it behind, and a later Dir removes it once it is older than maxTempAge.
const (
	tempDir    = ".tmp"
	maxTempAge = time.Hour
)

// Dir is a Bucket in a local directory. Objects are hard links, so the root, and the local files put into it, should be on one file
// system; across two, files are copied.
type Dir struct {
	fs   FS
	root string

	sweep sync.Once

	mu   sync.Mutex
	dirs map[string]bool // directories known to be durable, by path
}

var _ Bucket = (*Dir)(nil)

// NewDir returns the Bucket in the directory root, which is created when first needed.
func NewDir(fs FS, root string) *Dir {
	return &Dir{fs: fs, root: filepath.Clean(root), dirs: map[string]bool{}}
}

// path returns the path of an object, refusing names that would leave the root or meet the temporary files.
func (d *Dir) path(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." || name == tempDir || strings.HasPrefix(name, tempDir+"/") {
		return "", fmt.Errorf("bad object name %q", name)
	}
	return filepath.Join(d.root, filepath.FromSlash(name)), nil
}

// mkdir creates dir and makes its name durable, and that of each parent: any of them may be new.
func (d *Dir) mkdir(dir string) error {
	d.mu.Lock()
	known := d.dirs[dir]
	d.mu.Unlock()
	if known {
		return nil
	}
	if err := d.fs.MkdirAll(dir); err != nil {
		return err
	}
	for p := dir; p != filepath.Dir(p); p = filepath.Dir(p) {
		err := d.fs.SyncDir(filepath.Dir(p))
		if errors.Is(err, fs.ErrPermission) && !strings.HasPrefix(p, d.root+string(filepath.Separator)) {
			break // above the root is what we may not read, so what we have not made
		}
		if err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.dirs[dir] = true
	d.mu.Unlock()
	return nil
}

// inDir runs do, which makes a name in dir, in a directory that exists, and makes the name durable. A directory that somebody has removed
// is made again once.
func (d *Dir) inDir(dir string, do func() error) error {
	if err := d.mkdir(dir); err != nil {
		return err
	}
	err := do()
	if errors.Is(err, fs.ErrNotExist) {
		d.mu.Lock()
		delete(d.dirs, dir)
		d.mu.Unlock()
		if err := d.mkdir(dir); err != nil {
			return err
		}
		err = do()
	}
	if err != nil {
		return err
	}
	return d.fs.SyncDir(dir)
}

// writeTemp writes a new file with the bytes of r, synced, and returns its path. Its name is not durable.
func (d *Dir) writeTemp(r io.Reader) (path string, err error) {
	dir := filepath.Join(d.root, tempDir)
	if err := d.mkdir(dir); err != nil {
		return "", err
	}
	d.sweep.Do(func() { d.sweepTemp(dir) })
	path = filepath.Join(dir, fmt.Sprintf("%d-%s", time.Now().Unix(), rand.Text()))
	f, err := d.fs.Create(path)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = d.fs.Remove(path) // it has no name that anybody reads
		return "", err
	}
	return path, nil
}

// sweepTemp removes what crashes have left in the directory of temporary files. What it cannot remove stays: it is in nobody's way.
func (d *Dir) sweepTemp(dir string) {
	names, err := d.fs.List(dir)
	if err != nil {
		return
	}
	oldest := time.Now().Add(-maxTempAge).Unix()
	for _, name := range names {
		second, _, _ := strings.Cut(name, "-")
		if made, err := strconv.ParseInt(second, 10, 64); err == nil && made < oldest {
			_ = d.fs.Remove(filepath.Join(dir, name))
		}
	}
}

// PutIfAbsent implements [Bucket]: a synced temporary file, then a hard link, which fails if the name is taken.
func (d *Dir) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	temp, err := d.writeTemp(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	defer func() { _ = d.fs.Remove(temp) }() // a leftover is swept an hour later
	err = d.inDir(filepath.Dir(path), func() error { return d.fs.Link(temp, path) })
	if errors.Is(err, fs.ErrExist) {
		// Whoever linked it may have died, or failed, before it was durable. What we say is there must stay.
		if err := d.fs.SyncDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("put %s: %w", name, err)
		}
		return fmt.Errorf("put %s: %w", name, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// Get implements [Bucket].
func (d *Dir) Get(ctx context.Context, name string) ([]byte, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := d.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("get %s: %w", name, ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	return data, nil
}

// PutFile implements [Bucket].
func (d *Dir) PutFile(ctx context.Context, name, localPath string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := d.fs.Open(localPath)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // whoever wrote it need not have
		return fmt.Errorf("put %s: sync %s: %w", name, localPath, err)
	}
	if err := d.linkOrCopy(localPath, path, f); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// linkOrCopy makes the file at from, open as f, durable as path. One that is there stays.
func (d *Dir) linkOrCopy(from, path string, f File) error {
	dir := filepath.Dir(path)
	err := d.inDir(dir, func() error { return d.fs.Link(from, path) })
	if errors.Is(err, fs.ErrExist) {
		return d.fs.SyncDir(dir) // whoever linked it may have died before this
	}
	if err == nil {
		return nil
	}
	temp, terr := d.writeTemp(f) // another file system, or one without hard links
	if terr != nil {
		return errors.Join(err, terr)
	}
	return d.inDir(dir, func() error { return d.fs.Rename(temp, path) })
}

// GetFile implements [Bucket]. localPath's directory must exist; the name is not made durable.
func (d *Dir) GetFile(ctx context.Context, name, localPath string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := d.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("get %s: %w", name, ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	defer f.Close()
	if err := d.fs.Remove(localPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("get %s: replace %s: %w", name, localPath, err)
	}
	if d.fs.Link(path, localPath) == nil {
		return nil
	}
	out, err := d.fs.Create(localPath)
	if err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	_, err = io.Copy(out, f)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	return nil
}

// Publish implements [Bucket].
func (d *Dir) Publish(ctx context.Context, from, to string) error {
	source, err := d.path(from)
	if err != nil {
		return err
	}
	target, err := d.path(to)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := d.fs.Open(source)
	if errors.Is(err, fs.ErrNotExist) {
		g, terr := d.fs.Open(target)
		if terr != nil {
			return fmt.Errorf("publish %s as %s: %w", from, to, ErrNotExist)
		}
		_ = g.Close()
		return d.fs.SyncDir(filepath.Dir(target))
	}
	if err != nil {
		return fmt.Errorf("publish %s as %s: %w", from, to, err)
	}
	defer f.Close()
	if err := d.linkOrCopy(source, target, f); err != nil {
		return fmt.Errorf("publish %s as %s: %w", from, to, err)
	}
	return nil
}

// List implements [Bucket].
func (d *Dir) List(ctx context.Context, prefix, after string) ([]string, error) {
	dir := prefix[:strings.LastIndexByte(prefix, '/')+1] // objects that start with prefix are below it
	var names []string
	if err := d.walk(ctx, dir, prefix, after, &names); err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	slices.Sort(names) // a directory's names sort before '/' is appended, an object's after
	return names, nil
}

// walk appends the names below dir ("" or ending in '/') that List wants.
func (d *Dir) walk(ctx context.Context, dir, prefix, after string, names *[]string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := d.fs.List(filepath.Join(d.root, filepath.FromSlash(dir)))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := dir + e
		if name == tempDir || !strings.HasPrefix(name, prefix) {
			continue
		}
		isDir, err := d.isDir(name)
		if err != nil {
			return err
		}
		if isDir {
			if err := d.walk(ctx, name+"/", prefix, after, names); err != nil {
				return err
			}
		} else if name > after {
			*names = append(*names, name)
		}
	}
	return nil
}

// isDir tells a directory from an object: an FS reports it where it can for less, else a directory is what cannot be read.
func (d *Dir) isDir(name string) (bool, error) {
	path := filepath.Join(d.root, filepath.FromSlash(name))
	if known, ok := d.fs.(interface {
		IsDir(name string) (bool, error)
	}); ok {
		isDir, err := known.IsDir(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // deleted since it was listed; who gets it finds out
		}
		return isDir, err
	}
	f, err := d.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	return err != nil && err != io.EOF, nil
}

// Delete implements [Bucket]. A deletion need not be durable: what is deleted again was garbage before.
func (d *Dir) Delete(ctx context.Context, name string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}
