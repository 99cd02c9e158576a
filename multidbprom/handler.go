package multidbprom

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers a scrape with what New collects and nothing else, from a registry of its
// own: for programs that have none. The error is that of the options.
func Handler(m Source, opts ...Option) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(New(m, opts...)); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}
