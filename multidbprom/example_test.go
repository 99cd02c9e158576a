package multidbprom_test

import (
	"fmt"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbprom"
	"github.com/prometheus/client_golang/prometheus"
)

func ExampleNew() {
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob("/data/{{project}}/{{database}}.db")))
	if err != nil {
		fmt.Println(err)
		return
	}
	registry := prometheus.NewRegistry()
	prices := multidbprom.S3StandardPrices()
	prices.Put = 0.0054 // eu-central-1
	if err := registry.Register(multidbprom.New(m, multidbprom.WithPrices(prices))); err != nil {
		fmt.Println(err)
		return
	}
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families[:3] {
		fmt.Println(f.GetName(), f.GetType())
	}
	// Output:
	// multidb_build_info GAUGE
	// multidb_compactions_total COUNTER
	// multidb_databases GAUGE
}
