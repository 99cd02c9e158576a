// Package multidb replicates a fleet of SQLite databases, one file per tenant,
// to S3 from inside one Go process, and gets every one of them back.
//
// # Concepts
//
// A [Manager] discovers databases through one or more Discoverers: [Glob] for
// paths such as /data/{{project}}/databases/{{database}}.db, [Static] for a
// list, or your own. Each has an [ID], by default the values captured from its
// path: project0/db0.
//
// It keeps the active ones hot: their WAL is followed and what was committed is
// written to the replica about once a second. The rest are cold: known, sealed,
// and not polled. A write through the pool, a recent change found by a scan, or
// enough accesses make a database hot; five minutes without a write make it
// cold again. See [WithPromotion], [WithHotDuration] and [WithMaxHot].
//
// The application uses its databases through [Manager.Acquire] or [Manager.Do],
// which share a bounded number of open ones, and make those that are new;
// [Manager.AcquireExisting] makes none, and [Manager.Exists] tells. [WithPragma] and [WithConnHook] say what each
// of their connections is like, [WithOpenHook] brings a database's schema up to date.
// Foreign keys are off, as SQLite has it, until WithPragma("foreign_keys", "on"): a fleet that
// exists is opened as it was used before.
//
// A replica is a [ReplicaFactory]: [NewS3Replica], [NewFileReplica],
// [NewURLReplica], or multidbtest.NewReplica in memory for your tests. What is
// written is litestream's own format (LTX files, level by level), so that the
// stock "litestream restore" works on every tenant too.
//
// With [WithFleetLog] the changes of all databases go out as one object each sync
// interval, to a log beside the prefixes, instead of one for each database. What is
// durable in the log is unpacked into the prefixes in the background; a restore by
// this package reads both. One Manager owns a log: a later one takes it over, and
// the databases of the earlier one are fenced.
//
// With [WithCluster] several Managers on several machines share such a fleet: each database is served by one of them,
// moves when a node joins, leaves or is drained ([Manager.Drain]), and goes on at another one when its node has died. The methods
// of a database return a [*NotOwnerError] elsewhere; multidbhttp.Router passes requests on.
//
// # What is promised
//
// A commit is durable once [Manager.Sync] has returned for it, and not before;
// without Sync that is usually one sync interval after the commit. [Manager.SyncAll]
// is that for all databases. Every state
// that the replica can restore is one that the source had at a commit. What
// cannot be proved to continue the replica's history is shipped as a whole
// state instead. Nothing is overwritten: not a local file by [Manager.Restore],
// nor a transaction of another writer. A file with commits on an older state than
// the replica's is not shipped ([ErrFenced]) until an operator says which history
// counts: [Manager.TakeOver] or [Manager.Adopt]. [Manager.HandOver] lets another
// machine go on.
//
// While the replica is away the WAL is the queue: the application's writes go
// on and nothing is copied aside, up to [WithMaxWALSize].
//
// The databases themselves are never modified: no table, no file beside them
// but SQLite's own.
//
// # Shutdown
//
// [Manager.Close] stops admitting, waits for handles, ships what is left, and
// names what is not durable, and whose handles were not released ([WithLeaseTraces]). A process that is killed loses nothing that was
// committed: the next Start goes on from the files.
//
// # What it does, to watch
//
// [Manager.Healthy] and [Manager.Status] say which databases are not well and why,
// [Manager.Stats] how much was done; multidbprom exports that. [WithLogger] and
// [WithObserver] tell of each change of state. [WithTracer] follows single calls and
// requests; multidbotel has one for OpenTelemetry.
//
// # Limits
//
// One Manager owns a replica prefix and a state directory at a time. An
// application in the same process must use the pool, or the same driver: see
// [Manager.Acquire]. A database in rollback-journal mode is shipped whole at
// every change; the pool converts those it opens to WAL. Linux and macOS.
package multidb
