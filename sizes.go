package multidb

import (
	"fmt"

	"github.com/multidb-go/multidb/internal/fleet"
)

// SizeOrder says what Largest goes by.
type SizeOrder int

const (
	// BySizeLocal goes by Status.LocalBytes. It is the default, the zero value.
	BySizeLocal SizeOrder = iota
	// BySizeReplica goes by Status.ReplicaBytes. What is not known counts as zero.
	BySizeReplica
)

var sizeOrderNames = [...]string{"local", "replica"}

// String returns local or replica.
func (o SizeOrder) String() string {
	if o >= 0 && int(o) < len(sizeOrderNames) {
		return sizeOrderNames[o]
	}
	return fmt.Sprintf("SizeOrder(%d)", int(o))
}

// Largest returns the n largest databases, the largest first; all of them if there are
// fewer. It asks neither the disk nor the replica, and looks at every database, in a few
// milliseconds for 100,000. Safe for concurrent use.
func (m *Manager) Largest(n int, by SizeOrder) []Status {
	key := func(s fleet.Size) int64 { return s.LocalBytes }
	if by == BySizeReplica {
		key = func(s fleet.Size) int64 { return s.ReplicaBytes }
	}
	var all []Status
	for _, s := range m.fleet.Largest(n, key) {
		all = append(all, m.statusOf(s))
	}
	return all
}

// StoragePrices are what it costs to keep bytes at a replica. It is a plain value.
type StoragePrices struct {
	// GBMonth is the price in USD of 1 GB (1,000,000,000 bytes) for a month. Zero: it is free.
	GBMonth float64
}

// S3StandardStorage returns the list price of Amazon S3 Standard in us-east-1 and most other
// large regions for the first 50 TB, as of 2025: 0.023 USD for a GB and month. Other
// regions, storage classes and stores differ, and prices change: give your own.
func S3StandardStorage() StoragePrices { return StoragePrices{GBMonth: 0.023} }

// Monthly is what it costs to keep so many bytes for a month, in USD: bytes / 1e9 x
// GBMonth.
func (p StoragePrices) Monthly(bytes int64) float64 { return float64(bytes) / 1e9 * p.GBMonth }

// MonthlyCost is what it costs to keep the database at the replica for a month, in USD, as
// large as it is now: ReplicaBytes / 1e9 x GBMonth. Requests are not in it, which Stats
// counts for all databases together. Zero as long as ReplicaSized is false.
func (s Status) MonthlyCost(p StoragePrices) float64 { return p.Monthly(s.ReplicaBytes) }
