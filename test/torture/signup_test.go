package torture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// signupSchema is made by the open hook with a commit for each, so that a process that is
// killed in between leaves half of it.
var signupSchema = []string{
	"CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, email TEXT NOT NULL)",
	"CREATE TABLE IF NOT EXISTS plan(name TEXT PRIMARY KEY)",
	"INSERT INTO plan VALUES('free') ON CONFLICT DO NOTHING",
}

// signUp is what a service does when somebody signs up. It fails on half a schema.
func signUp(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "INSERT INTO account VALUES(1, (SELECT 'ann@' || name FROM plan)) ON CONFLICT DO NOTHING")
	return err
}

// signedUp returns the address of the one account; empty: there is none. It fails on half a
// schema.
func signedUp(ctx context.Context, db *sql.DB) (email string, err error) {
	var plans int
	err = db.QueryRowContext(ctx, "SELECT count(*), coalesce((SELECT email FROM account), '') FROM plan").Scan(&plans, &email)
	if err == nil && plans != 1 {
		err = fmt.Errorf("%d plans", plans)
	}
	return email, err
}

// signupHook makes the schema of "a", and ends as it is told: "whole"; "error": it fails once
// all is committed; "killed": the process dies after the first commit. Before it ends badly it
// waits until another database is shipped and another one is listed, so that this one would
// have been, too.
func signupHook(cfg lifeConfig, m func() *multidb.Manager) func(context.Context, multidb.Database, *sql.DB) error {
	return func(ctx context.Context, of multidb.Database, db *sql.DB) error {
		if of.ID != "a" {
			return nil
		}
		steps := signupSchema
		if cfg.Signup == "killed" {
			steps = steps[:1]
		}
		for _, q := range steps {
			if _, err := db.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		if cfg.Signup == "whole" {
			return nil
		}
		if err := lifeGoesOn(ctx, m(), cfg); err != nil {
			return err
		}
		if cfg.Signup == "killed" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal arrives before this goroutine goes on
		}
		return errHook
	}
}

var errHook = errors.New("the schema is wrong")

// lifeGoesOn returns when a write to the database "other" is shipped, and a new file is listed.
func lifeGoesOn(ctx context.Context, m *multidb.Manager, cfg lifeConfig) error {
	const other = "other"
	if err := m.Do(ctx, other, func(db *sql.DB) error { return lifeWrite(ctx, db, lifeLedger, 1) }); err != nil {
		return err
	}
	if _, err := m.Sync(ctx, other); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(cfg.Root, "seen.db"), nil, 0o644); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := m.Status("seen"); err == nil {
			return nil
		}
		pause(5 * time.Millisecond)
	}
	return context.Cause(ctx)
}

// TestNobodyIsServedHalfASchemaAfterAKillInTheMakingOfATenant kills a process between the
// making of a tenant's file and the end of its open hook, in the hook, and where a failed
// making is undone. Until then nothing of the tenant is shipped. Afterwards a tenant that is
// there is served only after the hook was called once more, here, after the loss of the
// state directory, and on a machine that has only the replica. Signing up again works.
func TestNobodyIsServedHalfASchemaAfterAKillInTheMakingOfATenant(t *testing.T) {
	bin := buildChild(t)
	t.Run("kills", func(t *testing.T) {
		withAndWithoutLog(t, func(t *testing.T, log bool) {
			for _, c := range []signupKill{
				{hook: "whole", point: "make.file.made@1", stays: true},
				{hook: "killed", stays: true},
				{hook: "error", point: "make.file.undone@1"},
			} {
				for _, lost := range []bool{false, true} {
					t.Run(fmt.Sprintf("hook %s, at %q, state lost %v", c.hook, c.point, lost), func(t *testing.T) {
						t.Parallel()
						c.in(t, newTenantLife(t, bin, log), lost)
					})
				}
			}
			t.Run("of one that was brought back", func(t *testing.T) {
				t.Parallel()
				killedInTheHookOfARestored(t, newTenantLife(t, bin, log))
			})
		})
	})
}

// signupKill is a kill in the making of the tenant "a".
type signupKill struct {
	hook  string // of the process that dies
	point string // empty: the hook kills it
	stays bool   // the file of the tenant is left
}

func (c signupKill) in(t *testing.T, l *tenantLife, lost bool) {
	l.signup = c.hook
	if !l.run(c.point, "sign-up a") {
		t.Fatal("it was not killed")
	}
	l.nothingAt("a")
	if _, err := l.restored("a", 0); !errors.Is(err, multidb.ErrNoBackup) {
		t.Errorf("a restore of what was not made yet: %v", err)
	}
	_, err := os.Stat(filepath.Join(l.root, "a.db"))
	if there := err == nil; there != c.stays {
		t.Fatalf("a file was left: %v; want %v", there, c.stays)
	}
	if lost {
		if err := os.RemoveAll(filepath.Join(l.root, ".multidb")); err != nil {
			t.Fatal(err)
		}
	}
	calls := l.signsUp()
	l.start()
	defer func() { l.stop() }()
	if is, err := l.m.Exists(t.Context(), "a"); is != c.stays || err != nil {
		t.Errorf("exists: %v, %v; want %v", is, err, c.stays)
	}
	if !c.stays {
		if h, err := l.m.AcquireExisting(t.Context(), "a"); !errors.Is(err, multidb.ErrNotFound) {
			h.Release()
			t.Errorf("what was undone is served: %v", err)
		}
		l.noFiles("a")
	} else {
		// What a crash has left is a database of this machine, and shipped as it is: another
		// machine has it by then, and calls the hook as well.
		if _, err := l.m.Sync(t.Context(), "a"); err != nil {
			t.Errorf("sync of what was left: %v", err)
		}
		if calls.Load() != 0 {
			t.Error("a Sync has called the hook")
		}
		if c.point == "" { // there is half a schema to restore
			l.stop()
			copied := l.copy() // so that there are not two writers of one prefix
			copied.more = l.more
			copied.elsewhere(func(o *tenantLife) { o.serves("a", "", calls) })
			l.start()
		}
		l.serves("a", "", calls)
	}
	before := calls.Load()
	if err := l.m.Do(t.Context(), "a", func(db *sql.DB) error { return signUp(t.Context(), db) }); err != nil {
		t.Fatalf("signing up again: %v", err)
	}
	if !c.stays && calls.Load() == before {
		t.Error("a new tenant was made without its hook")
	}
	if _, err := l.m.Sync(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	l.stop()
	l.elsewhere(func(o *tenantLife) { o.serves("a", "ann@free", calls) })
}

// killedInTheHookOfARestored kills a process in the hook of a tenant that it has brought back.
func killedInTheHookOfARestored(t *testing.T, l *tenantLife) {
	l.run("", "write a", "sync a") // by a program that had no such schema yet
	for _, path := range []string{l.root, filepath.Join(l.root, "..", "said")} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(l.root, 0o755); err != nil {
		t.Fatal(err)
	}
	l.signup = "killed"
	if !l.run("", "acquire a") {
		t.Fatal("it was not killed")
	}
	calls := l.signsUp()
	l.start()
	defer l.stop()
	l.serves("a", "", calls)
	l.is("a", 12)
}

// signsUp gives the Manager of this process the hook that makes all of the schema, and
// returns how often it was called for "a".
func (l *tenantLife) signsUp() *atomic.Int32 {
	var calls atomic.Int32
	hook := signupHook(lifeConfig{Signup: "whole"}, nil)
	l.more = []multidb.Option{multidb.WithOpenHook(func(ctx context.Context, of multidb.Database, db *sql.DB) error {
		if of.ID == "a" {
			calls.Add(1)
		}
		return hook(ctx, of, db)
	})}
	return &calls
}

// serves checks that a tenant that exists is served with the whole schema, and what it has.
// calls counts its hook's.
func (l *tenantLife) serves(id multidb.ID, email string, calls *atomic.Int32) {
	l.t.Helper()
	before := calls.Load()
	h, err := l.m.AcquireExisting(l.t.Context(), id)
	if err != nil {
		l.t.Errorf("%s: %v", id, err)
		return
	}
	defer h.Release()
	got, err := signedUp(l.t.Context(), h.DB())
	if err != nil || got != email {
		l.t.Errorf("%s has %q, %v; want %q", id, got, err, email)
	}
	if calls.Load() == before {
		l.t.Errorf("%s is served without its hook", id)
	}
}
