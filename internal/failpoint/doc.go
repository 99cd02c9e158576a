// Package failpoint names places in the library at which a test can kill the
// process or make an operation that succeeded report a failure.
//
// It exists only in binaries built with the tag "failpoint"; otherwise its
// functions are empty and inlined. There the environment variable
// MULTIDB_FAILPOINT arms one place:
//
//	MULTIDB_FAILPOINT=ship.put.after@3    kill -9 when Hit is called for the third time
//	MULTIDB_FAILPOINT=ship.put.lost@1     the first Err that had no error returns ErrInjected
//
// And a variable of the name given to Duration, behind MULTIDB_, replaces a duration
// that is no option: MULTIDB_GRACE=2s.
//
// Names are <part>.<operation>.<moment>. The functions are safe for concurrent use.
package failpoint
