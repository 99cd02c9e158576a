package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/bucket"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// printBucket prints the tree of what the bucket holds of these databases.
func (d *show) printBucket(ctx context.Context, store *bucket.Bucket) error {
	// What was written last may still be on its way; Sync waits for it.
	if err := d.syncAll(ctx); err != nil {
		return err
	}
	say(d.out, "\nWhat the bucket %q holds of them\n", store.Name())
	project := ""
	for i := range d.tree.Len() {
		st, err := d.m.Status(d.tree.ID(i))
		if err != nil {
			return err
		}
		if p, _ := st.Var("project"); p != project {
			project = p
			say(d.out, "  litestream/%s/\n", p)
		}
		name, _ := st.Var("database")
		say(d.out, "    %s/\n", name)
		if err := d.printPrefix(ctx, st.Database); err != nil {
			return err
		}
	}
	if d.fleetLog {
		return d.printLog(ctx)
	}
	return nil
}

// printPrefix prints one line per level, since level 0 has a file per commit.
func (d *show) printPrefix(ctx context.Context, db multidb.Database) error {
	client, err := d.replica.ReplicaClient(db)
	if err != nil {
		return err
	}
	if lister, ok := client.(multidb.FileLister); ok {
		files, err := lister.AllLTXFiles(ctx, false)
		if err != nil {
			return err
		}
		for len(files) > 0 { // sorted by level, then by TXID
			first, n, size := files[0], 0, int64(0)
			for n < len(files) && files[n].Level == first.Level {
				size += files[n].Size
				n++
			}
			last := files[n-1]
			say(d.out, "      %04x/  %s…%s.ltx  %s, %s\n", first.Level, first.MinTXID, last.MaxTXID, term.Plural(n, "file"), term.Bytes(size))
			files = files[n:]
		}
	}
	if md, ok := client.(multidb.MetadataStore); ok {
		b, err := md.ReadMetadata(ctx)
		switch {
		case err == nil:
			say(d.out, "      metadata.json  %s\n", term.Bytes(int64(len(b))))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// restoreAll restores every database into a temporary directory and compares
// each with its source. All are tried, whatever becomes of the first ones.
func (d *show) restoreAll(ctx context.Context, how string, restore func(ctx context.Context, i int, path string) (tenant.Digest, error)) (err error) {
	dir, err := os.MkdirTemp("", "multidb-restored-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	table := [][]string{{"database", "restored in", "size", "tables", "rows", "result"}}
	failed := 0
	for i := range d.tree.Len() {
		id := d.tree.ID(i)
		path := filepath.Join(dir, filepath.FromSlash(string(id))+".db")
		began := time.Now()
		digest, err := restore(ctx, i, path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		size, result := "-", "equal"
		if fi, statErr := os.Stat(path); statErr == nil {
			size = term.Bytes(fi.Size())
		}
		if err != nil {
			failed++
			result = "FAILED: " + err.Error()
		}
		table = append(table, []string{id.String(), term.Duration(time.Since(began)), size,
			fmt.Sprint(digest.Tables), fmt.Sprint(digest.Rows), result})
	}
	say(d.out, "\n%s and compared with the source: integrity, schema, every row\n", how)
	term.Table(d.out, table)
	if failed > 0 {
		return fmt.Errorf("%d of %d databases are not what their source is", failed, d.tree.Len())
	}
	say(d.out, "All %d databases are equal to their sources.\n", d.tree.Len())
	return nil
}

// restore makes path from S3 and returns what the source holds. The error says
// how the two differ, if they do.
func (d *show) restore(ctx context.Context, i int, path string) (source tenant.Digest, err error) {
	id := d.tree.ID(i)
	if err := d.m.Restore(ctx, id, multidb.RestoreOptions{OutputPath: path}); err != nil {
		return source, err
	}
	err = d.m.Do(ctx, id, func(db *sql.DB) error {
		source, err = tenant.Digested(ctx, db)
		return err
	})
	if err != nil {
		return source, fmt.Errorf("source: %w", err)
	}
	return source, compare(ctx, source, path)
}

// compare says how a restored file differs from its source, if it does.
func compare(ctx context.Context, source tenant.Digest, path string) error {
	restored, err := tenant.DigestedFile(ctx, path)
	if err != nil {
		return err
	}
	if diff := source.Diff(restored); diff != "" {
		return errors.New(diff)
	}
	return nil
}
