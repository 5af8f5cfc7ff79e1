package parquet

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/freshet-dev/freshet/sink"
)

// withFile calls fn with the first size bytes of a file, or all of them if size is negative. They are mapped where the system can, so that
// they are the page cache's memory and not ours; they are valid until fn returns. A file that gets shorter, or a disk that fails, while fn
// reads is an error, not the end of the process.
func withFile(fs sink.FS, path string, size int64, fn func(data []byte) error) (err error) {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := f.Size()
	if err != nil {
		return err
	}
	if size < 0 {
		size = have
	}
	if have < size {
		return fmt.Errorf("%w: %s has %d bytes, fewer than the %d written", ErrDamaged, path, have, size)
	}
	if size == 0 {
		return fn(nil)
	}
	data, unmap, ok := mapFile(f, size)
	if !ok {
		data = make([]byte, size)
		if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), data); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		return fn(data)
	}
	defer unmap()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr // a fault in the mapping
		}:
			err = fmt.Errorf("read %s: %w", path, p)
		default:
			panic(p)
		}
	}()
	return fn(data)
}
