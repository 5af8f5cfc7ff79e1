// Package e2e runs the freshet binary as its users do: as processes of its own, against real servers (package servers), with a reader that
// polls Redis meanwhile, and holds all that comes out against the oracle.
//
//	go test ./test/e2e                      # short: a few kills, and what needs no Java
//	FRESHET_E2E=full go test ./test/e2e     # everything: 25 kills, a real Apache Kafka and schema registry
//	SEED=7 FRESHET_E2E=full go test ./test/e2e -run Kill -v
//
// What a machine lacks is skipped in one line; with CI=true it fails the test.
package e2e
