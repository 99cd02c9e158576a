package multidb_test

import (
	"database/sql"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/markdown"
	"github.com/multidb-go/multidb/multidbprom"
	"github.com/multidb-go/multidb/multidbtest"
)

// requestsPerHour is the formula of docs/OPERATIONS.md: the requests of a tenant
// that commits all the time.
func requestsPerHour(commits float64, syncInterval time.Duration) (puts, gets float64) {
	files := min(commits, float64(time.Hour/syncInterval))
	if files == 0 {
		return 0, 0
	}
	return 1.018*files + 1.0/24, 1.018 * files
}

// TestAnActiveTenantCostsNoMoreRequestsThanTheFormulaSays runs the clock ahead
// and counts what reaches the replica.
func TestAnActiveTenantCostsNoMoreRequestsThanTheFormulaSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		every         time.Duration // between two commits
		hours         float64
		syncInterval  time.Duration
		filesExpected float64 // of level 0
	}{
		{"a commit a second", time.Second, 0.5, time.Second, 1800},
		{"a commit a second, shipped every 10 s", time.Second, 0.5, 10 * time.Second, 180},
		{"a commit a minute", time.Minute, 4, time.Second, 240},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newTreeIn(t, memoryDir(t), 1, 1)
			base := time.Now().Add(time.Second)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				rep := multidbtest.NewReplica()
				m, err := multidb.New(
					multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(rep),
					multidb.WithSyncInterval(c.syncInterval), multidb.WithWatch(false), multidb.WithCacheSize(0),
					multidb.WithClock(func() time.Time { return base.Add(time.Since(began)) }),
				)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				write := func() {
					err := m.Do(t.Context(), "project0/db0", func(db *sql.DB) error {
						_, err := db.Exec("CREATE TABLE IF NOT EXISTS log(v); INSERT INTO log VALUES(1)")
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				write()
				if _, err := m.Sync(t.Context(), "project0/db0"); err != nil {
					t.Fatal(err)
				}
				first := rep.RequestStats()
				<-time.After(c.syncInterval / 3) // no write falls into the run that ships the one before
				for range int(c.hours * float64(time.Hour/c.every)) {
					write()
					<-time.After(c.every)
				}
				got := rep.RequestStats()
				puts, gets, lists := float64(got.Put-first.Put), float64(got.Get-first.Get), got.List-first.List
				perHour := 1 / c.hours
				wantPuts, wantGets := requestsPerHour(float64(time.Hour/c.every), c.syncInterval)
				t.Logf("an hour: %.1f puts of %.1f, %.1f gets of %.1f, %d lists, %d deletes", puts*perHour, wantPuts, gets*perHour, wantGets, lists, got.Delete)
				// A tick or two may fall on either side of the end. Time stamps of files do
				// not run ahead, so that a commit may be seen a tick late.
				if puts < 0.6*c.filesExpected || puts > 1.01*wantPuts*c.hours+3 {
					t.Errorf("%.0f puts for %.0f files; the formula says %.1f", puts, c.filesExpected, wantPuts*c.hours)
				}
				if gets < 0.6*c.filesExpected || gets > 1.01*wantGets*c.hours+3 {
					t.Errorf("%.0f gets; the formula says %.1f", gets, wantGets*c.hours)
				}
				if lists != 0 || got.Delete > int64(12*c.hours)+1 {
					t.Errorf("%d lists, %d deletes", lists, got.Delete)
				}
				if err := m.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestTheCostTableIsTheFormula computes every row of the document again.
func TestTheCostTableIsTheFormula(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	prices, rows := multidbprom.S3StandardPrices(), 0
	for _, row := range markdown.Rows(markdown.Sections(string(doc))["What it costs"]) {
		if len(row) != 6 || row[0] == "a tenant that" {
			continue
		}
		rows++
		number := func(i int) float64 {
			n, err := strconv.ParseFloat(strings.ReplaceAll(row[i], ",", ""), 64)
			if err != nil {
				t.Errorf("%s: %v", row[0], err)
			}
			return n
		}
		interval, err := time.ParseDuration(row[2])
		if err != nil {
			t.Fatal(err)
		}
		puts, gets := requestsPerHour(number(1), interval)
		usd := 730 * (puts*prices.Put + gets*prices.Get) / 1000
		for i, want := range []float64{puts, gets, usd} {
			if got := number(3 + i); math.Abs(got-want) > 0.05 && i < 2 || i == 2 && math.Abs(got-want) > 0.005 {
				t.Errorf("%s: column %d is %v, want %.3f", row[0], 4+i, got, want)
			}
		}
	}
	if rows < 4 {
		t.Errorf("%d rows were found", rows)
	}
}
