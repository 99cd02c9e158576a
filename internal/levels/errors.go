package levels

import "errors"

var (
	// ErrInventory is returned when a file of the inventory is not at the
	// replica: something else deletes there, such as a lifecycle rule. List the
	// prefix, Reset the inventory, and take a snapshot if it is not Restorable.
	ErrInventory = errors.New("replica does not hold a file of the inventory")
	// ErrPageSize is returned when files to compact have different page sizes. An epoch
	// has then been begun between them, so that the next call compacts them separately.
	// Take a snapshot if the inventory is not Restorable.
	ErrPageSize = errors.New("page size changes between files")
	// ErrNotRestorable is returned when the newest TXID cannot be restored from
	// the files of the inventory. Take a snapshot.
	ErrNotRestorable = errors.New("replica cannot be restored to its newest TXID")
	// ErrForeign is returned when the file that a compaction would write exists with
	// other content: another history has been written to the prefix.
	ErrForeign = errors.New("another file of that name stands at the replica")
	// ErrEncoding is returned when bytes are not an encoded inventory: they were
	// truncated, changed, or written by another version. List the prefix instead.
	ErrEncoding = errors.New("not an encoded inventory")
)
