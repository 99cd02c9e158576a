package multidb

import "context"

// WithMaxDisk makes the local disk a cache of the replica: where all local files, databases,
// WALs and the indexes of open ones, are larger than bytes together, those of the databases
// that were not used for longest are deleted, and the next Acquire brings each of them back.
// A file is deleted only after everything that was committed is at the replica, in the
// database's own prefix, and that was looked at; and where no other program has it open. All,
// Status and Stats go on knowing the database (Status.Resident is false), and no scan forgets
// it, nor does a restart. Default 0: no limit, nothing is deleted.
//
// The limit is kept by making whoever needs a file wait until there is room for it. What is
// leased, fails, is fenced, or is not at the replica stays, whatever the limit: a database
// larger than the limit works, and so does a limit smaller than what is leased; Stats
// says by how much it is passed. Where the disk is full before, files go sooner.
//
// It needs a replica. Only this process should write to the files: SQLite's locks show
// another program only while it has read something of a database and not closed it.
func WithMaxDisk(bytes int64) Option {
	return func(c *config) error {
		if bytes < 0 {
			return invalid("WithMaxDisk", "%d; want the size of the local files in bytes, or 0 for no limit", bytes)
		}
		c.maxDisk = bytes
		return nil
	}
}

// DiskStats is what WithMaxDisk does. All of it is zero without a limit.
type DiskStats struct {
	Limit     int64 // in bytes
	Used      int64 // by local files, and those that are being brought back
	Evictions int64 // files that were deleted
	Failures  int64 // deletions that were given up: the database was wanted again, or could not be shipped
}

// Evict lets go of one database. It waits until every lease of it is released, which ctx
// bounds, closes what the pool keeps open of it, and ships what is left. An Acquire
// meanwhile waits too, and later ones open the database again.
//
// With WithMaxDisk its local file is deleted then, as if it had not been used for longest:
// the next Acquire brings it back. The error says why it stays: ErrInUse where another program
// has it open, ErrFenced, ErrNoBackup where the replica has nothing of it, that of the replica.
//
// Without a limit the file stays, with its log cut if the replica takes what is in it, so
// that it may be exchanged: move it away together with its -wal and -shm, then rename the other
// one to its place. Where ctx ends first the handles are closed when they are released.
//
// A database that is not open, or has no local file, is none of its errors: ErrNotFound,
// ErrNotDatabase, ErrNotStarted, ErrClosed, and that of ctx; all as *Error.
func (m *Manager) Evict(ctx context.Context, id ID) error {
	e, err := m.lookup(ctx, id)
	switch {
	case err != nil:
	case m.cfg.maxDisk > 0:
		err = m.opener.Vacate(ctx, e, nil)
	default:
		err = m.opener.EvictAndCut(ctx, e)
	}
	return opError("evict", id, err)
}
