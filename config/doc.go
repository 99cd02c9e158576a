// Package config reads the YAML configuration of a multidb.Manager.
//
//	opts, err := config.Load("multidb.yaml")
//	m, err := multidb.New(opts...)
//
// # The file
//
//	multi-db:
//	  patterns:
//	    - "/data/{{project}}/databases/{{database}}.db"
//	  replica-template:
//	    type: s3
//	    bucket: ${S3_BUCKET}
//	    path: "litestream/{{project}}/{{database}}/"
//	    sync-interval: 1s
//	    retention: 24h
//
// Under multi-db, with the option of package multidb that says more; what is
// left out has that option's default:
//
//	enabled                  true or false; default true. See ErrDisabled
//	patterns                 list for Glob. Required
//	replica-template         mapping, see below. Required
//	state-dir                WithStateDir
//	allow-missing-roots      true or false, WithMissingRoots
//	allow-emptied-volumes    true or false, WithEmptiedVolumes: for one start
//	max-hot-databases        WithMaxHot
//	hot-duration             WithHotDuration
//	hot-promotion            mapping, WithPromotion:
//	  recent-modify-threshold    duration; 0: never
//	  access-count-threshold     0 to 65535; 0: never
//	scan-interval            WithScanInterval
//	watch                    true or false, WithWatch
//	cold-sync-interval       WithColdSyncInterval
//	cold-sync-mode           snapshot (the default) or none, WithColdSyncMode
//	max-open-databases       WithMaxOpen
//	max-connections          WithMaxConns, of one database
//	idle-timeout             WithIdleTimeout
//	busy-timeout             WithBusyTimeout
//	pragmas                  mapping of SQLite's names to values, WithPragma, as foreign_keys: on
//	lease-traces             true or false, WithLeaseTraces
//	restore-on-open          true or false, WithRestoreOnOpen
//	integrity-check          full (the default), quick or none, WithIntegrityCheck
//	takeover                 never (the default) or unknown, WithTakeover
//	upload-concurrency       WithUploadConcurrency
//	checkpoint-pages         WithCheckpointPages
//	max-wal-size             size, WithMaxWALSize
//	max-total-wal-size       size, WithMaxTotalWALSize; 0: none
//	max-disk                 size, WithMaxDisk; 0: no limit
//	removed-retention        duration, WithRemovedRetention
//	cache-size               size, WithCacheSize; 0: none
//	policies                 list of mappings, WithPolicy; the first that matches counts
//	  match                      of IDs, see below. Required
//	  sync-interval, cold-sync-interval, hot-duration, snapshot-interval,
//	  retention, l0-retention    durations in place of the key of that name
//	  hot                        auto (the default), always or never
//	  evict-priority             number; the higher, the later it leaves the disk
//	fleet-log                mapping, WithFleetLog; {}: with the defaults; left out: no fleet log
//	  path                       of the log's directory at the replica; default fleet
//	  unpack-interval            duration
//	  unpack-size                size, at least 64KiB
//	  log-retention              duration
//	cluster                  mapping, WithCluster; {}: with the defaults; left out: this is no node of several
//	  node                       name, which no other node has; default: the host's name up to the first dot
//	  url                        where the application of this node is reached by the others; default: not at all
//	  membership                 bucket, the default and the only one here, see below
//	  heartbeat                  duration; default 3s. The same for all nodes
//	  move-timeout               duration; default 1.5s
//	  strict-ownership           duration, for how long the node serves on without the bucket; 0, the default: for ever
//	  max-moves                  shards moved at once, 1 to 1024; default 16
//	drills                   mapping, WithDrills; left out: no drills
//	  per-day                    databases restored a day, 1 to 1000000. Required
//	  max-age                    duration; 0, the default: none
//	listen                   mapping; what multidb replicate serves, see Listen; left out: nothing
//	  address                    host and port, as 127.0.0.1:9460. Required
//	  token-file                 file that has the token; needed where other machines can reach the address
//	  verbs                      list of sync, evict, restore, adopt, takeover; default: none
//	  restore-dir                absolute path that restore makes its files in
//	  hosts                      list of names by which this machine is called
//	  title                      what the page calls the fleet
//	  max-lag                    duration; default 1m
//	log                      mapping, WithLogger to standard error; default: no log
//	  level                      debug, info (the default), warn or error
//	  format                     text (the default) or json
//
// A match is a pattern of path.Match for the ID of a database, which is the values
// that its pattern captured, joined by slashes: "paying/*" are those whose first
// value is paying. * stands for anything in one part, ? for one character, and
// [a-f] for one of these. A database that nothing matches has no policy; nor
// has one whose match has no other key, so that it is an exception.
//
// With cold-sync-mode snapshot, a change found in a cold database is shipped
// within the cold sync interval: as what was committed where that can be
// proved, else as a snapshot. With none it stays local until the database is
// hot again, or replication is stopped; the status shows it as pending.
//
// Under replica-template, for every type:
//
//	type                     s3, file, url, or none: only discover, tier and pool
//	sync-interval            WithSyncInterval
//	snapshot-interval        WithSnapshotInterval
//	retention                WithRetention
//	retention-check-interval WithRetentionInterval
//	l0-retention             WithL0Retention
//
// For type s3 also every field of multidb.S3Config: bucket and path (required),
// region, endpoint, access-key-id, secret-access-key, session-token, profile,
// anonymous, force-path-style, accelerate, storage-class, sse, sse-kms-key-id,
// sse-customer-key, concurrency, max-attempts, request-timeout, part-size,
// allow-unsafe-writes, no-delete. For type file: dir and path, both required, see
// multidb.NewFileReplica. For type url: url, required, see multidb.NewURLReplica;
// the program imports the client of its scheme.
//
// A cluster implies fleet-log, with its defaults if that is left out, and restore-on-open. Its
// members are kept in the bucket. Package etcdmembership, which keeps them in etcd, is a module of
// its own that neither this package nor the command links: a program of your own that wants
// it leaves cluster out, and adds WithCluster to what Options returns.
//
// What listen says is for the command: it is no option of multidb.New. A program of your own
// may give it to package multidbhttp.
//
// Options that take a function or code of yours (WithOpenHook, WithConnHook, WithObserver,
// WithTracer) have no key: add them to what Options returns. Where an option is given twice, the last one
// counts.
//
// # Values
//
// A duration is written as in Go: 500ms, 30s, 1h30m; there are no days. A size
// is a number of bytes, or one with KiB, MiB or GiB. Relative paths are
// relative to the working directory of the process, not to the file.
//
// In a value, ${NAME} stands for an environment variable, which must be set and
// not empty, and ${NAME:-text} for one that may be unset or empty and then is
// text. $$ is a dollar sign; any other $ stands for itself. Variables are put in
// after the file was parsed: whatever they hold, they cannot add a key.
//
// # Strictness
//
// Everything that would have no effect, or not the one meant, is an error with
// file, line and column: unknown and duplicate keys, values of a wrong type or
// out of range, keys without a value, a number where text belongs (quote it), a
// second document, anchors, aliases and tags. A file is at most MaxSize long.
//
// # Secrets
//
// Errors, logs and the text of a Config show what the file says (${NAME}),
// never what a variable holds, and nothing of a key that takes a secret, even
// where it stands in the file as plain text.
package config
