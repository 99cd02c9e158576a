package multidbprom_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbprom"
)

func TestTheHandlerAnswersAScrapeWithWhatIsCollected(t *testing.T) {
	h, err := multidbprom.Handler(&source{stats: multidb.Stats{Databases: 4711}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "\nmultidb_databases 4711\n") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "\ngo_") {
		t.Error("it has metrics of others")
	}
	if _, err := multidbprom.Handler(&source{}, multidbprom.WithPrices(multidbprom.Prices{Put: -1})); err == nil {
		t.Error("a negative price is no error")
	}
}
