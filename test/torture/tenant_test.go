package torture

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

// tenant is a database of a ward. One goroutine uses it at a time.
type tenant struct {
	t    *testing.T
	w    *ward
	id   multidb.ID
	l    ledger
	n    int       // its last transaction
	last time.Time // when that was committed
}

// try makes the next transaction, which may be refused.
func (p *tenant) try() error {
	err := p.w.m.Do(context.Background(), p.id, func(db *sql.DB) error {
		c, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		defer c.Close()
		return p.l.apply(context.Background(), c, p.n+1, true)
	})
	if err == nil {
		p.n, p.last = p.n+1, time.Now()
	}
	return err
}

// write is P5: no error, and nowhere near the busy timeout of 5 s.
func (p *tenant) write(n int) {
	p.t.Helper()
	for range n {
		began := time.Now()
		if err := p.try(); err != nil {
			p.t.Errorf("%s: a write failed: %v", p.id, err)
			return
		}
		if d := p.last.Sub(began); d > 5*time.Second {
			p.t.Errorf("%s: a write took %v", p.id, d)
		}
	}
}

func (p *tenant) sync() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := p.w.m.Sync(ctx, p.id); err != nil {
		p.t.Errorf("%s: sync: %v", p.id, err)
	}
}

func (p *tenant) status() multidb.Status {
	st, err := p.w.m.Status(p.id)
	if err != nil {
		p.t.Error(err)
	}
	return st
}

// checkAll restores every TXID of a prefix: each is a commit, none older than
// the one before, the newest is transaction last.
func (l ledger) checkAll(t testing.TB, client litestream.ReplicaClient, last int) {
	t.Helper()
	files, err := listFiles(client)
	if err != nil {
		t.Error(err)
		return
	}
	dir, before := t.TempDir(), 0
	for i, f := range files {
		if i+1 < len(files) && files[i+1].MaxTXID == f.MaxTXID {
			continue
		}
		path, err := restoreFile(client, dir, f.MaxTXID)
		if err != nil {
			t.Errorf("%v; files: %s", err, listing(files))
			return
		}
		n, err := l.verifyFile(t, path)
		if err != nil || n < before {
			t.Errorf("TXID %s restores to transaction %d, the one before it to %d: %v", f.MaxTXID, n, before, err)
			return
		}
		before = n
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	}
	if before != last {
		t.Errorf("the newest TXID restores to transaction %d, the source is at %d", before, last)
	}
}
