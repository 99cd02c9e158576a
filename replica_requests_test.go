package multidb_test

import (
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// hour runs one database that commits once a second for an hour, or for ten
// minutes under -short, and returns the requests that took and the commits. The
// clock runs ahead of the files' stamps, so that now and then two commits in one
// tick look like one, and share a file.
func hour(t *testing.T, opts ...multidb.Option) (s multidb.RequestStats, commits int, span time.Duration) {
	root := newTreeIn(t, memoryDir(t), 1, 1)
	base := time.Now().Add(time.Second)
	commits = 3600
	if testing.Short() {
		commits = 600
	}
	span = time.Duration(commits) * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rep := multidbtest.NewReplica()
		m, err := multidb.New(append([]multidb.Option{
			multidb.WithDiscoverer(multidb.Glob(pattern(root))),
			multidb.WithReplica(rep),
			multidb.WithWatch(false), // waiting for the kernel keeps the clock from running ahead
			multidb.WithClock(func() time.Time { return base.Add(time.Since(began)) }),
		}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		const id = "project0/db0"
		if _, err := m.Sync(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		before := rep.RequestStats()
		for range commits {
			err := m.Do(t.Context(), id, func(db *sql.DB) error {
				_, err := db.Exec("INSERT INTO t(v) VALUES('one small row of a tenant')")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Sync(t.Context(), id); err != nil { // else two may share a file
				t.Fatal(err)
			}
			<-time.After(time.Second)
		}
		after := rep.RequestStats()
		s = multidb.RequestStats{Put: after.Put - before.Put, Get: after.Get - before.Get,
			List: after.List - before.List, Delete: after.Delete - before.Delete,
			BytesIn: after.BytesIn - before.BytesIn, BytesOut: after.BytesOut - before.BytesOut}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d commits in %v: %d PUT, %d GET, %d LIST, %d DELETE, %d bytes out, %d bytes in",
		commits, span, s.Put, s.Get, s.List, s.Delete, s.BytesOut, s.BytesIn)
	return s, commits, span
}

func TestAnActiveTenantHourCostsOnePutPerCommitAndNoDownload(t *testing.T) {
	t.Parallel()
	s, commits, span := hour(t)
	if s.Get != 0 || s.List != 0 {
		t.Errorf("%d GETs and %d LISTs", s.Get, s.List)
	}
	// Of every 60 files one of level 1, and of 16 of those one of level 2. The
	// first copy of the database is the first file.
	most := int64(commits + (commits+1)/60 + (commits+1)/960)
	if least := most * 98 / 100; s.Put > most || s.Put < least {
		t.Errorf("%d PUTs, want %d to %d", s.Put, least, most)
	}
	if most := int64(span/(5*time.Minute) + 1); s.Delete > most {
		t.Errorf("%d DELETEs, want at most %d", s.Delete, most)
	}
}

func TestWithoutACacheEachFileIsDownloadedOncePerLevel(t *testing.T) {
	t.Parallel()
	s, commits, _ := hour(t, multidb.WithCacheSize(0))
	most := int64((commits+1)/60*60 + (commits+1)/960*16)
	if least := most - most*2/100 - 60; s.Get > most || s.Get < least || s.List != 0 {
		t.Errorf("%d GETs and %d LISTs, want %d to %d GETs", s.Get, s.List, least, most)
	}
}
