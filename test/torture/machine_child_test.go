package torture

import (
	"bufio"
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
	"github.com/multidb-go/multidb/test/torture/clusternode"
)

// machineEnv is what a process that is one of several machines is to do.
const machineEnv = "MULTIDB_TORTURE_MACHINE"

// machineConfig tells a machine what it is.
type machineConfig struct {
	Root, State string
	Dir, URL    string // of the replica that all share
	Life        string // in no other life's commits
	FleetLog    bool
	OnOpen      bool // WithRestoreOnOpen
}

// runMachine carries out one command a line, in order, and says what came of it:
//
//	B tenant before after   about to commit, from one head to the next
//	C tenant head           committed
//	S tenant head           a Sync, HandOver or Close returned nil
//	T tenant head           a TakeOver is about to begin
//	D error                 the command is done
//
// It ends with its standard input.
func runMachine(job string) error {
	var cfg machineConfig
	if err := json.Unmarshal([]byte(job), &cfg); err != nil {
		return err
	}
	p := place{dir: cfg.Dir, url: cfg.URL, log: cfg.FleetLog}
	f, err := p.open()
	if err != nil {
		return err
	}
	opts := append(p.logged(fast(cfg.Root, f, func(multidb.Event) {})...),
		multidb.WithTakeover(multidb.TakeoverNever), multidb.WithStateDir(cfg.State),
		multidb.WithRetention(2*time.Second), multidb.WithL0Retention(200*time.Millisecond),
		multidb.WithRetentionInterval(100*time.Millisecond))
	if cfg.OnOpen {
		opts = append(opts, multidb.WithRestoreOnOpen())
	}
	m, err := multidb.New(opts...)
	if err != nil {
		return err
	}
	if err := m.Start(context.Background()); err != nil {
		return err
	}
	c := &machineChild{cfg: cfg, m: m}
	c.say("D <nil>")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var what, tenant string
		var n int
		if _, err := fmt.Sscan(in.Text(), &what, &tenant, &n); err != nil {
			return err
		}
		err := c.do(what, multidb.ID(tenant), n)
		c.say("D %s", strings.ReplaceAll(fmt.Sprint(err), "\n", " "))
		if what == "close" {
			return nil
		}
	}
	return in.Err()
}

type machineChild struct {
	cfg machineConfig
	m   *multidb.Manager
	seq int
}

func (c *machineChild) say(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...)
}

func (c *machineChild) do(what string, id multidb.ID, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var head string
	use := func(fn func(*sql.DB) error) error {
		return c.m.Do(ctx, id, func(db *sql.DB) (err error) {
			if _, head, err = clusternode.Read(ctx, db); err == nil && fn != nil {
				err = fn(db)
			}
			return err
		})
	}
	switch what {
	case "write":
		return use(func(db *sql.DB) (err error) {
			for range n {
				if head, err = c.commit(ctx, db, id, head); err != nil {
					return err
				}
			}
			return nil
		})
	case "adopt":
		_, err := c.m.Adopt(ctx, id)
		return err
	case "close":
		return c.m.Close(ctx)
	}
	if err := use(nil); err != nil {
		return err
	}
	var err error
	switch what {
	case "sync":
		_, err = c.m.Sync(ctx, id)
	case "handover":
		err = c.m.HandOver(ctx, id)
	case "takeover":
		c.say("T %s %s", id, head)
		err = c.m.TakeOver(ctx, id)
	default:
		return errors.New("no such command")
	}
	if err == nil {
		c.say("S %s %s", id, head)
	}
	return err
}

// commit adds a row that no other life has, and rewrites a page or two.
func (c *machineChild) commit(ctx context.Context, db *sql.DB, id multidb.ID, before string) (after string, err error) {
	c.seq++
	v := fmt.Sprintf("%s.%d", c.cfg.Life, c.seq)
	after = clusternode.Next(before, v)
	if err := clusternode.Append(ctx, db, v, after, func() { c.say("B %s %s %s", id, before, after) }); err != nil {
		return before, err
	}
	c.say("C %s %s", id, after)
	return after, nil
}

// machineDirs makes the directories of a machine.
func (cfg machineConfig) makeDirs() error {
	return errors.Join(os.MkdirAll(cfg.Root, 0o755), os.MkdirAll(filepath.Dir(cfg.State), 0o755))
}
