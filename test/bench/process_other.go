//go:build unix && !linux

package main

import "syscall"

// endWithUs is for Linux; elsewhere children outlive a process that is killed.
func endWithUs() *syscall.SysProcAttr { return nil }
