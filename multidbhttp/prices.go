package multidbhttp

import "github.com/multidb-go/multidb"

// S3StandardPrices returns the list prices of Amazon S3 Standard in us-east-1 and most other
// large regions, as of 2025. Others differ, and prices change: give your own.
func S3StandardPrices() Prices {
	return Prices{Put: 0.005, Get: 0.0004, List: 0.005, Head: 0.0004, GBMonth: multidb.S3StandardStorage().GBMonth}
}

// requests is what requests cost, in USD.
func (p Prices) requests(n multidb.RequestStats) float64 {
	return (float64(n.Put)*p.Put + float64(n.Get)*p.Get + float64(n.List)*p.List +
		float64(n.Head)*p.Head + float64(n.Delete)*p.Delete) / 1000
}

// monthly is what it costs to keep bytes for a month, in USD.
func (p Prices) monthly(bytes int64) float64 {
	return multidb.StoragePrices{GBMonth: p.GBMonth}.Monthly(bytes)
}
