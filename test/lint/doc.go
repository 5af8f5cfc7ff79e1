// Package lint holds the rules that every file of the repository keeps, as tests. They read the files themselves, with go/parser: a test
// that asks another program would pass from the cache after the files have changed.
package lint
