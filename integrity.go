package multidb

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// IntegrityCheck says how a restored database is checked before it appears under
// its name. Damage fails the restore with ErrCorrupt, whatever the check that finds
// it. What is no damage is a warning: rows that break a NOT NULL, a CHECK, a UNIQUE
// or a type, which the application may have written before there was that rule,
// and what could not be compared since it needs a function, a collation, a
// tokenizer or a syntax that this SQLite lacks, or too much memory or time.
//
// A check runs no function of the application, and what a schema computes gets
// about 256 MB of memory, and 10 s and a second for each MB of the database: it may
// be anybody's.
type IntegrityCheck int

const (
	// IntegrityFull compares every row with its indexes, beside what IntegrityQuick
	// does. It reads all of the database. It is the default, the zero value.
	IntegrityFull IntegrityCheck = iota
	// IntegrityQuick checks the structure of the file and the rules of its rows.
	// It reads all of the database, and takes much less time where there are
	// indexes.
	IntegrityQuick
	// IntegrityNone trusts the checksums of the LTX files.
	IntegrityNone
)

var integrityNames = [...]string{"full", "quick", "none"}

func (c IntegrityCheck) String() string {
	if c.valid() {
		return integrityNames[c]
	}
	return fmt.Sprintf("IntegrityCheck(%d)", int(c))
}

func (c IntegrityCheck) valid() bool { return c >= 0 && int(c) < len(integrityNames) }

// MarshalText writes full, quick or none.
func (c IntegrityCheck) MarshalText() ([]byte, error) {
	if !c.valid() {
		return nil, fmt.Errorf("%w: %v", ErrInvalidOption, c)
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads full, quick or none; the error wraps ErrInvalidOption.
func (c *IntegrityCheck) UnmarshalText(text []byte) error {
	for i, name := range integrityNames {
		if string(text) == name {
			*c = IntegrityCheck(i)
			return nil
		}
	}
	return fmt.Errorf("%w: integrity check %q: write none, quick or full", ErrInvalidOption, text)
}

// depth is what internal/sqlitedb calls it, of any but IntegrityNone.
func (c IntegrityCheck) depth() sqlitedb.Depth {
	if c == IntegrityQuick {
		return sqlitedb.Quick
	}
	return sqlitedb.Full
}

// checkRestored checks a restored file that has not got its name yet.
func checkRestored(ctx context.Context, path string, opt RestoreOptions, logger *slog.Logger) error {
	if opt.IntegrityCheck == IntegrityNone {
		return nil
	}
	warnings, err := sqlitedb.CheckIntegrity(ctx, path, opt.IntegrityCheck.depth())
	if err != nil {
		return err
	}
	warn := opt.Warn
	if warn == nil {
		warn = func(warning string) {
			logger.Warn("multidb: restored, with a warning", "path", opt.OutputPath, "warning", warning)
		}
	}
	for _, w := range warnings {
		warn(w)
	}
	return nil
}
