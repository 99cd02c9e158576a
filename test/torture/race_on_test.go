//go:build race

package torture

// raceFactor is what the race detector makes of memory.
const raceFactor = 3
