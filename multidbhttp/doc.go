// Package multidbhttp serves what a multidb.Manager knows: a page for whoever is called at
// night, the same as JSON, health checks and metrics.
package multidbhttp
