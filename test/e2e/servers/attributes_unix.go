//go:build unix && !linux

package servers

import "syscall"

// attributes makes a child the leader of a process group.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
