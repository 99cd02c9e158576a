//go:build race

package multidb_test

const raceEnabled = true
