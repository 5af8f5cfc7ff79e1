package main

import "syscall"

// endWithUs has the kernel end a child when this process dies, however it does.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
