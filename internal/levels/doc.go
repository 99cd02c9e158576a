// Package levels knows what one replica prefix holds and keeps it small without
// ever listing it.
//
// An [Inventory] is the list of a prefix's LTX files, in memory. Whoever writes a file
// adds it; [Compact] and [Retain] update it while they merge and delete. It is built from
// a listing only if nothing else is known: once, when a prefix is taken over, and after
// [ErrInventory].
//
// # What may be deleted
//
// A restore to a time T begins with the newest snapshot that was created before T. From
// there it goes on, each time with the file that reaches furthest of those created before
// T. Let W be the start of the window, which is now less Policy.Retention. Then a file may
// be deleted
//
//   - if a snapshot created before W ends where the file ends, or later: the newest such
//     snapshot is the base, and no T in the window needs what is below it;
//   - or if a file of a higher level, created before W, contains it: every restore that
//     could use the file can use that one instead and reaches at least as far;
//   - or if it is of level 0, older than Policy.L0Retention, and a file of a level
//     from 1 to 8 contains it: points in time inside that file are given up.
//
// The last file of a level always stays. Litestream's compactor sees from it how far a
// level goes, and every other writer of the prefix sees from it whether it is still the
// last writer. For the same reason no file of level 0 is deleted before Policy.Grace. Each
// rule depends on a file that stays. So the prefix stays restorable if only some of the
// files that may be deleted are deleted, in any order.
//
// # What is not known
//
// A write or a deletion that returned an error may have happened all the same. The file
// is then a stray: no compaction, plan or count uses it until it is written again or a
// listing says whether it exists (Reset). A stray is not deleted, since nothing but its
// name is known: another writer may have made a file of the same name meanwhile, and
// deleted the files that it contains.
package levels
