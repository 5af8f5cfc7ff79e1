package processor

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// LockDir makes the state directory ours until the process ends or release is called: two processes must not share live stores and segments.
func LockDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("the state directory %s is in use by another freshet process: end that one, or give this one its own `data:` (or `state_dir:`)", dir)
	}
	return func() { f.Close() }, nil
}
