package processor

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// LockDir makes the state directory ours until the process ends or release is called: two processes must not share live stores and segments.
// release may be called after an error too.
func LockDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return func() {}, fmt.Errorf("make the state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return func() {}, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return func() {}, fmt.Errorf("the directory %s is in use by another freshet process: end that one, or give this one its own (`data:` or `state_dir:`; `--dir` of a demo)", dir)
	}
	return func() { f.Close() }, nil
}
