//go:build browser

package browser

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbtest"
)

// evil are IDs that would be markup, the end of an attribute, an address, part of a query, or
// text that runs from right to left, if anything took them for what they look like.
var evil = []string{
	`<img src=x onerror=alert(1)>`,
	`"><script>alert(2)</script>`,
	`javascript:alert(3)`,
	`' onfocus=alert(4) autofocus x='`,
	`</title></style></textarea><svg/onload=alert(5)>`,
	`a/../b?id=other&verb=evict#top%2e%2e%00`,
	"invoice\u202egpj.exe",
	`{{.Token}}/日本語/Ærø`,
	`100% of it + more`,
}

// tenants are made-up names.
var tenants = []string{"acme/billing", "fjordline/tickets", "harbor-bakery/orders", "lumen-studio/projects", "northwind/ledger",
	"orchard/stock", "pine-and-sons/payroll", "quill/notes", "tidewater/clinic/eu-central/patients-archive-of-the-year-2026"}

// site is a Manager with its page.
type site struct {
	t       *testing.T
	m       *multidb.Manager
	replica *multidbtest.Replica
	events  *multidbhttp.Events
	url     string
	restore string // the directory
}

// serve starts a fleet of the IDs, each with a table and a row, and its page.
func serve(t *testing.T, opt multidbhttp.Options, ids []string, more ...multidb.Option) *site {
	t.Helper()
	s := &site{t: t, replica: multidbtest.NewReplica(), events: &multidbhttp.Events{}}
	dir := t.TempDir()
	var dbs []multidb.Database
	for i, id := range ids {
		dbs = append(dbs, multidb.Database{ID: multidb.ID(id), Path: filepath.Join(dir, fmt.Sprintf("tenant%d.db", i))})
	}
	options := []multidb.Option{multidb.WithReplica(s.replica), multidb.WithStateDir(t.TempDir()), multidb.WithObserver(s.events.Observe)}
	if len(dbs) > 0 {
		options = append(options, multidb.WithDiscoverer(multidb.Static(dbs...)))
	}
	m, err := multidb.New(append(options, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.replica.ClearFaults()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Logf("close: %v", err)
		}
	})
	for _, id := range ids {
		s.write(id)
		if _, err := m.Sync(t.Context(), multidb.ID(id)); err != nil {
			t.Fatal(err)
		}
	}
	opt.Events = s.events
	s.publish(opt)
	return s
}

// publish serves the page of the Manager.
func (s *site) publish(opt multidbhttp.Options) {
	s.t.Helper()
	handler, err := multidbhttp.Handler(s.m, opt)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	sampling, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); handler.Run(sampling) }()
	s.t.Cleanup(func() {
		stop()
		<-done
		server.Close()
	})
	s.url, s.restore = server.URL, opt.RestoreDir
}

// write commits a row.
func (s *site) write(id string) {
	s.t.Helper()
	h, err := s.m.Acquire(s.t.Context(), multidb.ID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	defer h.Release()
	if _, err := h.DB().Exec("CREATE TABLE IF NOT EXISTS t(v); INSERT INTO t VALUES('a row')"); err != nil {
		s.t.Fatal(err)
	}
}

// everyVerb allows all of them.
func everyVerb(t *testing.T) multidbhttp.Options {
	return multidbhttp.Options{Title: "eu-1", Verbs: multidbhttp.Verbs(), RestoreDir: t.TempDir()}
}

// fail makes a database fail for want of rights, and waits until that is known.
func (s *site) fail(id string) {
	s.t.Helper()
	s.replica.Inject(multidbtest.Fault{Op: multidbtest.OpWrite, Prefix: s.prefix(id),
		Err: fmt.Errorf("%w: 403, the key has no right to write", multidb.ErrAccessDenied)})
	s.write(id)
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	if _, err := s.m.Sync(ctx, multidb.ID(id)); !errors.Is(err, multidb.ErrAccessDenied) {
		s.t.Fatalf("it does not fail: %v", err)
	}
}

func (s *site) prefix(id string) string {
	st, err := s.m.Status(multidb.ID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	return st.Prefix
}

func (s *site) txid(id string) multidb.TXID {
	s.t.Helper()
	st, err := s.m.Status(multidb.ID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	return st.TXID
}

// files are the names in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}
