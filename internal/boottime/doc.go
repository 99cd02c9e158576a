// Package boottime reads a clock that nobody can set and that also counts the
// time in which the machine was suspended. Go's monotonic clock stands still
// meanwhile on Linux: a machine that slept for an hour takes what it knew before
// for a moment old.
package boottime
