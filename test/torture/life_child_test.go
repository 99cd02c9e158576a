package torture

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// lifeEnv is what a process is to do that is killed in the middle of a tenant's life.
const lifeEnv = "MULTIDB_TORTURE_LIFE"

// lifeConfig tells it.
type lifeConfig struct {
	Root     string
	Dir      string // of the replica
	FleetLog bool
	Said     string   // the file to which it writes what it did
	Signup   string   // how the making of its schema ends, see signupHook; empty: there is no open hook
	Do       []string // in this order; then it closes its Manager, and ends
}

// lifeLedger is what is written to the database that these tests are about.
var lifeLedger = ledger{77}

// lifeOptions are those of every Manager of these tests: nothing is late, and all local files
// fit.
func lifeOptions(root string, p place, observe func(multidb.Event)) ([]multidb.Option, error) {
	f, err := p.open()
	if err != nil {
		return nil, err
	}
	return append(p.logged(fast(root, f, observe)...),
		multidb.WithMaxDisk(1<<30), multidb.WithRestoreOnOpen(), multidb.WithIntegrityCheck(multidb.IntegrityNone)), nil
}

func runLife(job string) error {
	var cfg lifeConfig
	if err := json.Unmarshal([]byte(job), &cfg); err != nil {
		return err
	}
	said, err := os.OpenFile(cfg.Said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer said.Close()
	opts, err := lifeOptions(cfg.Root, place{dir: cfg.Dir, log: cfg.FleetLog}, func(multidb.Event) {})
	if err != nil {
		return err
	}
	var m *multidb.Manager
	if cfg.Signup != "" {
		opts = append(opts, multidb.WithOpenHook(signupHook(cfg, func() *multidb.Manager { return m })))
	}
	if m, err = multidb.New(opts...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := m.Start(ctx); err != nil {
		return err
	}
	for _, what := range cfg.Do {
		answer, err := lifeStep(ctx, m, cfg, what)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if _, err := fmt.Fprintf(said, "%s: %s\n", what, answer); err != nil {
			return err
		}
	}
	return m.Close(ctx)
}

// lifeStep does one thing. A verb that was begun before is done until it has an end.
func lifeStep(ctx context.Context, m *multidb.Manager, cfg lifeConfig, what string) (string, error) {
	f := strings.Fields(what)
	id, to := multidb.ID(f[1]), multidb.ID("")
	if len(f) > 2 {
		to = multidb.ID(f[2])
	}
	switch f[0] {
	case "write": // 12 more transactions
		return "", m.Do(ctx, id, func(db *sql.DB) error { return lifeWrite(ctx, db, lifeLedger, 12) })
	case "sync":
		pos, err := m.Sync(ctx, id)
		return fmt.Sprint(uint64(pos.TXID)), err
	case "sign-up":
		return "", m.Do(ctx, id, func(db *sql.DB) error { return signUp(ctx, db) })
	case "acquire":
		return "", m.Do(ctx, id, func(db *sql.DB) error { return db.PingContext(ctx) })
	case "create": // a file without anything in it, as a program leaves that has not begun
		return "", os.WriteFile(filepath.Join(cfg.Root, f[1]+".db"), nil, 0o644)
	}
	do := map[string]func() error{
		"evict":    func() error { return m.Evict(ctx, id) },
		"remove":   func() error { return m.Remove(ctx, id) },
		"undelete": func() error { return m.Undelete(ctx, id) },
		"erase":    func() error { _, err := m.Erase(ctx, id); return err },
		"rename":   func() error { return m.Rename(ctx, id, to) },
		"fork":     func() error { return m.Fork(ctx, id, to, multidb.ForkOptions{}) },
	}[f[0]]
	if do == nil {
		return "", errors.New("nobody knows how")
	}
	for {
		err := do()
		over := err == nil
		switch f[0] {
		case "undelete": // it is in service
			if _, serr := m.Status(id); serr == nil && errors.Is(err, multidb.ErrInUse) {
				over = true
			}
		case "rename", "remove": // it was done in the life before; of what was never shipped nothing is left
			over = over || errors.Is(err, multidb.ErrNotFound)
		case "fork":
			over = over || errors.Is(err, multidb.ErrExists)
		}
		if over {
			return fmt.Sprint(err), nil
		}
		if !errors.Is(err, multidb.ErrInUse) && !errors.Is(err, multidb.ErrRemoved) || ctx.Err() != nil {
			return "", err
		}
		pause(5 * time.Millisecond)
	}
}

func lifeWrite(ctx context.Context, db *sql.DB, l ledger, n int) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	last, err := l.last(ctx, c)
	for i := 0; i < n && err == nil; i++ {
		err = l.apply(ctx, c, last+1+i, true)
	}
	return err
}
