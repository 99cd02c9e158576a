// Package torture tries to make multidb lose something. It has only tests: a
// random workload with an oracle, kill -9 at random and named instants, power
// failures, a faulty S3, two Managers on one prefix, writers in other
// processes, and the nodes of a cluster. docs/RELIABILITY.md says what each proves and how much of it ran.
//
// The short form is `go -C test test ./torture`. The long form, `make torture`,
// goes on for a time, from seed to seed:
//
//	MULTIDB_TORTURE_TIME=2h     how long each test runs (default: a few seeds)
//	MULTIDB_TORTURE_SEED=7      the first seed; without a time, the only one
//
// A failure prints the line that replays it; a long run prints the seed to go on
// from. The operations of a seed are always the same; what the Manager and the
// kernel do meanwhile is not, so that a replay may need several attempts.
package torture
