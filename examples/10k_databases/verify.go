package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"github.com/multidb-go/multidb/examples/internal/term"
)

// A sample is as many of the databases that were written to as of those that
// were not.
const (
	sampleEach  = 25
	verifyLimit = 2 * time.Minute
)

func (f *fleet) sample(l *load) []int {
	var written, resting []int
	for _, i := range rand.Perm(f.options.n) {
		switch {
		case l.wrote[i] && len(written) < sampleEach:
			written = append(written, i)
		case !l.wrote[i] && len(resting) < sampleEach:
			resting = append(resting, i)
		}
	}
	return append(written, resting...)
}

// verify restores a sample from S3 and compares each with its source.
func (f *fleet) verify(ctx context.Context, l *load) (err error) {
	ctx, cancel := context.WithTimeout(ctx, verifyLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "multidb-restored-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	sample := f.sample(l)
	rows, written := 0, 0
	var errs []error
	for n, i := range sample {
		d, err := f.compare(ctx, f.tree.ID(i), filepath.Join(dir, fmt.Sprintf("%d.db", n)))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.tree.ID(i), err))
		}
		rows += d.Rows
		if l.wrote[i] {
			written++
		}
	}
	say(f.out, "Restored a sample of %s from S3 (%d of them written to) and compared %s rows in %s: %d equal, %d not.\n",
		term.Plural(len(sample), "database"), written, term.Count(rows), term.Duration(time.Since(began)),
		len(sample)-len(errs), len(errs))
	return errors.Join(errs...)
}

var errUnequal = errors.New("the restored database is not what its source is")

// compare restores a database and returns what the source holds.
func (f *fleet) compare(ctx context.Context, id multidb.ID, path string) (source tenant.Digest, err error) {
	if _, err := f.m.Sync(ctx, id); err != nil {
		return source, err
	}
	if err := f.m.Restore(ctx, id, multidb.RestoreOptions{OutputPath: path}); err != nil {
		return source, err
	}
	restored, err := tenant.DigestedFile(ctx, path)
	if err != nil {
		return source, err
	}
	err = f.m.Do(ctx, id, func(db *sql.DB) error {
		source, err = tenant.Digested(ctx, db)
		return err
	})
	if err != nil {
		return source, fmt.Errorf("source: %w", err)
	}
	if diff := source.Diff(restored); diff != "" {
		return source, fmt.Errorf("%w: %s", errUnequal, diff)
	}
	return source, nil
}
