// Package crash takes the service down, again and again, at every step of its commit protocol (processor/DESIGN.md), and shows that nothing
// of what it promises is lost by that.
//
// A [world] is what a crash leaves alone: a broker (kfake), an online store (miniredis), producers, and readers that poll. A [life] is one
// process: a service on a [disk] that can lose its power, behind a [proxy] to the online store. A crash cuts the wires, takes from the disk a
// clone that holds all that was synced and a random share of the rest, and begins the next life on the clone, with a wall clock of its own,
// which may be behind the last one's.
//
//	SEED=7 go test ./test/crash -run Crashes -v           # the same choices again
//	FRESHET_CRASHES=208 go test ./test/crash -run Crashes  # as many as CI has, in four worlds; else 52 in one
//	FRESHET_GUARDS=all go test ./test/crash -run Guards    # take every guard out, one after the other
package crash
