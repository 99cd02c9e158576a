package multidb_test

import (
	"database/sql"
	"fmt"
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

// loggedRequestsPerHour is the formula of docs/OPERATIONS.md for tenants with a fleet log,
// all of which commit all the time.
func loggedRequestsPerHour(tenants int, syncInterval, unpackInterval time.Duration) (puts, gets float64) {
	unpacked := float64(tenants) * 1.018 * float64(time.Hour) / float64(unpackInterval)
	return float64(time.Hour/syncInterval) + unpacked + float64(tenants)/24, unpacked
}

// TestAFleetWithALogCostsNoMoreRequestsThanTheFormulaSays runs the clock ahead and counts
// what reaches the replica.
func TestAFleetWithALogCostsNoMoreRequestsThanTheFormulaSays(t *testing.T) {
	t.Parallel()
	const hours = 0.5
	tenants := 10
	if testing.Short() {
		tenants = 3
	}
	root := newTreeIn(t, memoryDir(t), 1, tenants)
	base := time.Now().Add(time.Second)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rep := multidbtest.NewReplica()
		m, err := multidb.New(
			multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(rep),
			multidb.WithFleetLog(multidb.FleetLogConfig{Path: "fleet"}),
			multidb.WithWatch(false), multidb.WithCacheSize(0),
			multidb.WithClock(func() time.Time { return base.Add(time.Since(began)) }),
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		write := func() {
			for i := range tenants {
				err := m.Do(t.Context(), multidb.ID(fmt.Sprint("project0/db", i)), func(db *sql.DB) error {
					_, err := db.Exec("CREATE TABLE IF NOT EXISTS log(v); INSERT INTO log VALUES(1)")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		write()
		if _, err := m.Sync(t.Context(), "project0/db0"); err != nil {
			t.Fatal(err)
		}
		first := rep.RequestStats()
		for range int(hours * 3600) {
			write()
			<-time.After(time.Second)
		}
		got := rep.RequestStats()
		puts, gets, lists := float64(got.Put-first.Put), float64(got.Get-first.Get), got.List-first.List
		wantPuts, wantGets := loggedRequestsPerHour(tenants, time.Second, 5*time.Minute)
		t.Logf("an hour: %.1f puts of %.1f, %.1f gets of %.1f, %d lists, %d deletes", puts/hours, wantPuts, gets/hours, wantGets, lists, got.Delete)
		// The first interval of each is a part of one, which may cost one unpacking more.
		if puts < 0.6*wantPuts*hours || puts > 1.01*wantPuts*hours+float64(tenants)+3 {
			t.Errorf("%.0f puts; the formula says %.1f", puts, wantPuts*hours)
		}
		if gets > 1.01*wantGets*hours+3 {
			t.Errorf("%.0f gets; the formula says %.1f", gets, wantGets*hours)
		}
		for i := range tenants {
			if n := len(rep.Files(fmt.Sprint("project0/db", i))); n < 3 {
				t.Errorf("db%d: its prefix has %d files after half an hour", i, n)
			}
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTheCostTableOfTheFleetLogIsTheFormula computes every row of the document again.
func TestTheCostTableOfTheFleetLogIsTheFormula(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	prices, rows := multidbprom.S3StandardPrices(), 0
	for _, row := range markdown.Rows(markdown.Sections(string(doc))["With a fleet log"]) {
		if len(row) != 6 || row[0] == "tenants" {
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
		interval, err := time.ParseDuration(row[1])
		if err != nil {
			t.Fatal(err)
		}
		puts, gets := loggedRequestsPerHour(int(number(0)), time.Second, interval)
		usd := func(puts, gets float64) float64 { return 730 * (puts*prices.Put + gets*prices.Get) / 1000 }
		onePuts, oneGets := requestsPerHour(3600, time.Second)
		for i, want := range []float64{puts, gets, usd(puts, gets), number(0) * usd(onePuts, oneGets)} {
			if got, within := number(2+i), 0.05; math.Abs(got-want) > within || i > 1 && math.Abs(got-want) > 0.0051 {
				t.Errorf("%s, %s: column %d is %v, want %.3f", row[0], row[1], 3+i, got, want)
			}
		}
	}
	if rows < 4 {
		t.Errorf("%d rows were found", rows)
	}
}
