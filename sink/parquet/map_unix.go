//go:build unix

package parquet

import (
	"os"
	"syscall"
)

// mapFile maps the first size > 0 bytes of f for reading. ok is false where it cannot be mapped, such as a file in memory.
func mapFile(f any, size int64) (data []byte, unmap func(), ok bool) {
	fd, ok := f.(interface{ Fd() uintptr })
	if !ok || int64(int(size)) != size {
		return nil, nil, false
	}
	data, err := syscall.Mmap(int(fd.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, false
	}
	return data, func() {
		if err := syscall.Munmap(data); err != nil {
			panic(os.NewSyscallError("munmap", err)) // only for what was never mapped
		}
	}, true
}
