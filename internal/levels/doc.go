// Package levels knows what one replica prefix holds and keeps it small without
// ever listing it.
//
// An [Inventory] is the list of a prefix's LTX files, in memory. Whoever writes
// a file adds it; [Compact] and [Retain] keep it true while they merge and
// delete. It is built from a listing only where nothing else is known: once,
// when a prefix is taken over, and after [ErrInventory].
//
// # What may be deleted
//
// A restore to a time T begins with the newest snapshot created before T and
// goes on with whatever reaches furthest and was created before T. So, with W
// the start of the window (now less Policy.Retention), a file may go when
//
//   - a snapshot created before W ends where it ends or later: the newest such
//     snapshot is the base, and no T in the window needs what is below it;
//   - or a file of a higher level, created before W, contains it: whatever T
//     could use this one can use that one and reaches at least as far;
//   - or it is of level 0, older than Policy.L0Retention, and a file of a level
//     from 1 to 8 contains it: points in time inside that file are given up.
//
// The last file of a level always stays: litestream's compactor tells by it how
// far a level goes, and every other writer of the prefix whether it is still the
// last one. For the same reason no file of level 0 goes before Policy.Grace. Each rule rests on a file that stays, so deleting any part
// of what may go, in any order, leaves the prefix restorable.
//
// # What is not known
//
// A write or a deletion that failed may have happened all the same. Such a file
// is a stray: no compaction, plan or count uses it, until the write is done again
// or a listing tells (Reset). It is not deleted by its name: another writer may
// have made the same file meanwhile, and deleted what it contains.
package levels
