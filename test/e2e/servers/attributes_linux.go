package servers

import "syscall"

// attributes makes a child the leader of a process group, which the kernel kills when the test dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
