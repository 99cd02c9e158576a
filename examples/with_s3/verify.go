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
	for i := range d.tree.Len() {
		if _, err := d.m.Sync(ctx, d.tree.ID(i)); err != nil {
			return err
		}
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

// restoreAll restores every database from S3 into a temporary directory and
// compares each with its source. All are tried, whatever becomes of the first
// ones.
func (d *show) restoreAll(ctx context.Context) (err error) {
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
		digest, err := d.restore(ctx, id, path)
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
	say(d.out, "\nRestored from S3 and compared with the source: integrity, schema, every row\n")
	term.Table(d.out, table)
	if failed > 0 {
		return fmt.Errorf("%d of %d databases are not what their source is", failed, d.tree.Len())
	}
	say(d.out, "All %d databases are equal to their sources.\n", d.tree.Len())
	return nil
}

// restore makes path from S3 and returns what the source holds. The error says
// how the two differ, if they do.
func (d *show) restore(ctx context.Context, id multidb.ID, path string) (source tenant.Digest, err error) {
	if err := d.m.Restore(ctx, id, multidb.RestoreOptions{OutputPath: path}); err != nil {
		return source, err
	}
	restored, err := tenant.DigestedFile(ctx, path)
	if err != nil {
		return source, err
	}
	err = d.m.Do(ctx, id, func(db *sql.DB) error {
		source, err = tenant.Digested(ctx, db)
		return err
	})
	if err != nil {
		return source, fmt.Errorf("source: %w", err)
	}
	if diff := source.Diff(restored); diff != "" {
		return source, errors.New(diff)
	}
	return source, nil
}
