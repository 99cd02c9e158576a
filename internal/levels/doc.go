// Package levels knows which files one replica prefix holds, and keeps them few without
// listing them.
//
// An [Inventory] is the list of a prefix's LTX files, in memory. Whoever writes a file
// adds it; [Compact] and [Retain] update it while they merge and delete files. It is built
// from a listing only if nothing is known of the prefix, and after [ErrInventory].
//
// # What may be deleted
//
// A restore to a time T begins with the newest snapshot that was created before T. From
// there it goes on, each time with the file that reaches furthest of those created before
// T. Let W be the start of the window, which is now less Policy.Retention. Then a file may
// be deleted
//
//   - if a snapshot created before W ends where the file ends, or later: no restore to a T
//     in the window begins with an older snapshot than that, or needs a file that ends
//     before it;
//   - or if a file of a higher level, created before W, contains it: every restore that
//     could use the file can use that one instead and reaches at least as far;
//   - or if it is of level 0, older than Policy.L0Retention, and a file of a level
//     from 1 to 8 contains it: points in time inside that file can no longer be restored.
//
// The last file of a level is never deleted. It shows litestream's compactor how far the
// level goes, and it shows every other writer of the prefix whether somebody has written
// since. For the second reason no file of level 0 is deleted before Policy.Grace has
// passed. Each rule depends on a file that is kept. So the prefix stays restorable even if
// only some of the files that may be deleted are deleted, in any order.
//
// # Strays
//
// A write or a deletion that returned an error may have happened all the same. The file
// is then a stray: no compaction, restore plan or count uses it until it is written again
// or a listing shows whether it exists (Reset). A stray is not deleted, because only its
// name is known: another writer may have made the same compaction meanwhile, and deleted
// the files that it was made of.
//
// # Epochs
//
// An epoch begins where files cannot be merged with those before, because the page size has
// changed or TXIDs are missing. See [Inventory.BeginEpoch].
package levels
