package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/test/torture/clusternode"
)

// movedError is the answer of a node that does not serve a tenant.
type movedError struct{ clusternode.Moved }

func (e movedError) Error() string { return fmt.Sprintf("served by %q at %q", e.Node, e.URL) }

// ask makes one request of a node, and reads the answer into one of these.
func (c *nodes) ask(ctx context.Context, at, path string, q url.Values, answer any) (err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if answer == nil {
			return nil
		}
		return json.Unmarshal(b, answer)
	case http.StatusMisdirectedRequest:
		var e movedError
		return errors.Join(json.Unmarshal(b, &e.Moved), e)
	}
	return fmt.Errorf("%s of %s: %d %s", path, at, resp.StatusCode, b)
}

// anywhere asks random nodes, and goes on where their answers say, until one does it. Every
// other error ends it.
func (c *nodes) anywhere(ctx context.Context, rng *rand.Rand, path string, q url.Values, answer any) (at string, err error) {
	at = pick(rng, c.all...).at()
	for {
		err := c.ask(ctx, at, path, q, answer)
		var e movedError
		if !errors.As(err, &e) {
			return at, err
		}
		if at = e.URL; at == "" { // nobody serves it right now
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return at, errors.Join(err, context.Cause(ctx))
			}
			at = pick(rng, c.all...).at()
		}
	}
}

// put commits a row of a tenant, and remembers what was promised.
func (c *nodes) put(ctx context.Context, rng *rand.Rand, tenant, v string) error {
	c.mu.Lock()
	c.tried[tenant][v] = true
	c.mu.Unlock()
	q := url.Values{"id": {tenant}, "v": {v}, "think": {"0s"}}
	if rng.IntN(4) == 0 {
		q.Set("think", fmt.Sprint(time.Duration(rng.IntN(300))*time.Millisecond))
	}
	if rng.IntN(2) == 0 {
		q.Set("held", "yes")
	}
	at, err := c.anywhere(ctx, rng, "/put", q, nil)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.promised[tenant] = append(c.promised[tenant], promise{v, fmt.Sprintf("%s %v", at, q), time.Now()})
		c.sum.count("commits promised")
	}
	return err
}

// write uses a tenant until the context ends, and notes for how long it had to wait.
func (c *nodes) write(use context.Context, tenant string, rng *rand.Rand) {
	last, quiet := time.Now(), time.Duration(0)
	for i := 0; use.Err() == nil && !c.t.Failed(); i++ {
		ctx, cancel := context.WithTimeout(use, 3*time.Second)
		err := c.put(ctx, rng, tenant, fmt.Sprintf("%s.%d", tenant, i))
		cancel()
		if err == nil {
			c.waited(tenant, last, time.Now(), quiet)
			last, quiet = time.Now(), time.Duration(100+rng.IntN(900))*time.Millisecond
			pause(quiet)
		} else {
			c.sum.count("puts without an answer")
			pause(100 * time.Millisecond)
		}
	}
}

// afterwards is for how long a crash counts as the reason of a wait after it is over.
const afterwards = 5 * time.Second

// waited notes the time from one promise to the next, without the pause that the user made.
func (c *nodes) waited(tenant string, from, to time.Time, quiet time.Duration) {
	c.mu.Lock()
	kind := "nothing"
	for _, h := range c.harm {
		over := h.to
		if over.IsZero() {
			over = to
		}
		if h.from.Before(to) && over.Add(afterwards).After(from) && kind != "crash" {
			kind = h.kind
		}
	}
	c.mu.Unlock()
	d := (to.Sub(from) - quiet).Round(time.Millisecond)
	c.sum.mu.Lock()
	defer c.sum.mu.Unlock()
	c.sum.longest[kind] = max(c.sum.longest[kind], d)
	if d > 5*time.Second {
		c.note("%s waited %v: %s", tenant, d, kind)
	}
	if d > max(c.worst, 20*time.Second) {
		c.worst, c.worstSaid = d, c.lately(250)
	}
}

func (c *nodes) owed(tenant string) []promise {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.promised[tenant])
}

// restoreSome restores tenants until the context ends.
func (c *nodes) restoreSome(use context.Context, rng *rand.Rand) {
	for use.Err() == nil && !c.t.Failed() {
		if tenant := pick(rng, c.tenants...); len(c.owed(tenant)) > 0 {
			c.restore(tenant)
		}
		pause(300 * time.Millisecond)
	}
}

// restore is P1 and P2: log and prefix restore to a state with all that was promised before. What
// a restore has listed may be deleted before it is read; then it is made anew.
func (c *nodes) restore(tenant string) {
	var failed error
	for range 5 {
		owed := c.owed(tenant)
		rows, err := c.restored(func(out string) error {
			f, err := multidb.ReadFleetLog(c.factory, logDir)
			if err != nil {
				return err
			}
			return multidb.RestoreFrom(context.Background(), f, c.place.database(tenant), multidb.RestoreOptions{OutputPath: out})
		})
		if err == nil {
			c.sum.count("restores")
			c.compare("a restore", tenant, owed, rows)
			return
		}
		c.sum.count("restores tried anew")
		failed = errors.Join(failed, err)
	}
	c.fail("%s does not restore: %v", tenant, failed)
}

// restored are the rows of what fn restores.
func (c *nodes) restored(fn func(out string) error) (rows []string, err error) {
	dir, err := os.MkdirTemp(c.dir, "restore-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "db")
	if err := fn(out); err != nil {
		return nil, err
	}
	db := openDB(c.t, out, "immutable=1")
	defer db.Close()
	if err := integrity(db); err != nil {
		return nil, err
	}
	return clusternode.Rows(context.Background(), db)
}

// compare finds what was promised, and nothing that nobody tried.
func (c *nodes) compare(where, tenant string, owed []promise, rows []string) {
	c.t.Helper()
	has := map[string]bool{}
	c.mu.Lock()
	tried := c.tried[tenant]
	for _, v := range rows {
		has[v] = true
		if !tried[v] {
			c.fail("%s of %s has %s, which nobody committed", where, tenant, v)
		}
	}
	c.mu.Unlock()
	for _, p := range owed {
		if !has[p.v] {
			c.fail("%s of %s (%d rows, the last of them %q) lacks %s, promised at %s by %s\n%s", where, tenant, len(rows), rows[max(0, len(rows)-3):], p.v,
				p.at.Format("04:05.000"), p.node, c.evidence(tenant))
			return
		}
	}
}

// evidence is what the bucket has of a tenant now, in its prefix and in the logs.
func (c *nodes) evidence(tenant string) string {
	var b strings.Builder
	files, err := store.Files(context.Background(), place{url: c.place.url}.client(c.t, tenant), true)
	fmt.Fprintf(&b, "prefix: %v\n", err)
	for _, f := range files {
		fmt.Fprintf(&b, "  level %d %d-%d of %s\n", f.Level, f.MinTXID, f.MaxTXID, f.CreatedAt.Format("04:05.000"))
	}
	keeps, ok := c.factory.(interface {
		Objects(dir string) (multidb.ObjectStore, error)
	})
	if !ok {
		return b.String()
	}
	objects, err := keeps.Objects(logDir)
	if err != nil {
		return b.String() + err.Error()
	}
	for o, err := range objects.List(context.Background(), "", "") {
		if err != nil {
			return b.String() + err.Error()
		}
		epoch, seq, ok := format.ParseObjectName(o.Name)
		if !ok {
			continue
		}
		rc, err := objects.Open(context.Background(), o.Name, 0, 0)
		if err != nil {
			continue
		}
		data, _ := io.ReadAll(rc)
		_ = rc.Close()
		e, _, err := format.Decode(data, int64(len(data)), epoch, seq)
		switch {
		case err != nil:
			fmt.Fprintf(&b, "  %d/%d: %v\n", epoch, seq, err)
		case e.Log == nil:
			fmt.Fprintf(&b, "  %d/%d: seal\n", epoch, seq)
		default:
			if r, ok := e.Log.Find("t/" + tenant); ok {
				fmt.Fprintf(&b, "  %d/%d: %d-%d of %s\n", epoch, seq, r.Min, r.Max, time.UnixMilli(r.Time).Format("04:05.000"))
			}
			if slices.Contains(e.Log.Releases, format.Shard("t/"+tenant)) {
				fmt.Fprintf(&b, "  %d/%d: releases its shard at %s\n", epoch, seq, time.UnixMilli(e.Log.Created).Format("04:05.000"))
			}
		}
	}
	return b.String()
}

// look checks what is left when all is healed and nobody writes: one owner each, who takes commits
// and has all; the same in restores; and after an orderly end in the prefixes alone.
func (c *nodes) look() {
	rng := rand.New(rand.NewPCG(c.seed, 23))
	ctx, cancel := context.WithTimeout(c.t.Context(), 6*time.Minute)
	defer cancel()
	for _, tenant := range c.tenants {
		// On a machine that is too busy for the heartbeat a node that lives is taken over at any time, and what it
		// was asked for just then fails. Then it has to be done soon after.
		c.soon(ctx, tenant+" takes no commit when all is healed", func(ctx context.Context) error {
			return c.put(ctx, rng, tenant, tenant+".last")
		})
		var rows []string
		c.soon(ctx, tenant+" cannot be read when all is healed", func(ctx context.Context) error {
			rows = nil
			_, err := c.anywhere(ctx, rng, "/get", url.Values{"id": {tenant}}, &rows)
			return err
		})
		c.compare("its owner's file", tenant, c.owed(tenant), rows)
		c.soon(ctx, "the owner of "+tenant, func(ctx context.Context) error { return c.owner(ctx, tenant) })
		c.restore(tenant)
	}
	for _, n := range c.all {
		if err := c.ask(ctx, n.at(), "/close", nil, nil); err != nil {
			c.fail("%s does not close: %v", n.cfg.Node, err)
			return
		}
		<-n.p.done
	}
	prefixes := place{url: c.place.url}
	for _, tenant := range c.tenants {
		rows, err := c.restored(func(out string) error {
			path, err := restoreFile(prefixes.client(c.t, tenant), c.dir, 0)
			if err != nil {
				return err
			}
			return errors.Join(os.Rename(path, out), os.Remove(filepath.Dir(path)))
		})
		if err != nil {
			c.fail("the prefix of %s: %v", tenant, err)
			continue
		}
		c.compare("its prefix after the end", tenant, c.owed(tenant), rows)
	}
}

// soon does something again until it succeeds. That has to be within half a minute.
func (c *nodes) soon(ctx context.Context, what string, fn func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := fn(ctx)
		if err == nil {
			return
		}
		c.note("%s: %v", what, err)
		c.sum.count("asked again when all was healed")
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			c.fail("%s: %v", what, err)
			return
		}
	}
}

// owner is nil if all nodes name the same owner, which agrees.
func (c *nodes) owner(ctx context.Context, tenant string) error {
	var who []string
	self := 0
	for _, n := range c.all {
		var o multidb.Owner
		if err := c.ask(ctx, n.at(), "/owner", url.Values{"id": {tenant}}, &o); err != nil {
			return fmt.Errorf("who owns %s: %w", tenant, err)
		}
		who = append(who, o.Node)
		if o.Self {
			self++
		}
	}
	if slices.Sort(who); self != 1 || who[0] != who[len(who)-1] || who[0] == "" {
		return fmt.Errorf("%s is served by %d nodes, of which they say %q", tenant, self, who)
	}
	return nil
}
