//go:build !race

package multidb_test

const raceEnabled = false
