package multidbprom

import (
	"fmt"
	"math"

	"github.com/multidb-go/multidb"
)

// Prices are what requests cost, in USD per 1,000 of a kind, and what it costs to keep
// 1 GB (1,000,000,000 bytes) for a month. It is a plain value. A price of zero is for what
// is free.
type Prices struct {
	Put, Get, List, Head, Delete float64
	GBMonth                      float64
}

// S3StandardPrices returns the list prices of Amazon S3 Standard in us-east-1
// and most other large regions, as of 2025: 0.005 for PUT and LIST, 0.0004 for
// GET and HEAD; DELETE is free; a GB is 0.023 a month. Other regions, storage classes and stores
// differ, and prices change: give your own by WithPrices.
func S3StandardPrices() Prices {
	return Prices{Put: 0.005, Get: 0.0004, List: 0.005, Head: 0.0004, Delete: 0, GBMonth: multidb.S3StandardStorage().GBMonth}
}

func (p Prices) validate() error {
	for _, v := range []float64{p.Put, p.Get, p.List, p.Head, p.Delete, p.GBMonth} {
		// A counter that falls, or is no number, spoils every rate over it.
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("multidbprom: a price of %v; want USD per 1,000 requests, or for a GB and month, 0 or more", v)
		}
	}
	return nil
}
