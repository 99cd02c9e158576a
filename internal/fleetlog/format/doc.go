// Package format says what a fleet log consists of, as bytes: the names of its objects
// and what is in them. It is pure: no I/O, no clock, no state, no lock. A decoded value
// may be read by many goroutines at once.
//
// # Names
//
// They are relative to the fleet's directory; numbers are 16 lower-case hexadecimal
// digits and begin at 1, so that the order of the bytes is the order of the numbers.
//
//	<epoch>/<seq>           a log object, or the seal that ends the log
//	large/<epoch>/<number>  one LTX file that is too large for a log object
//	map/<number>            which epochs there are, and which of them owns which shard
//
// # Objects
//
// Each of them is a payload, a footer and a trailer of a fixed size (see trailer.go), so
// that a reader who knows the size reads the footer with one range request for the last
// Suffix bytes, or with two if the footer is longer. Integers are varints, those of a
// fixed size little-endian; times are milliseconds since 1970.
//
//	log object   payload: LTX files, byte for byte, in the order of the records
//	             footer: author[16] epoch seq packed trim created
//	                     releases: n (shard: the first, then the distance to the last one)
//	                     records:  n (prefix-length prefix min max-min time-created
//	                                  large size crc[4])
//	             in version 2, which it has only if there are any:
//	                     forgets:  n (prefix-length prefix marks: n (epoch: distance to
//	                                  the last one, seq))
//	seal         footer: author[16] epoch seq trim next created who-length who
//	map          footer: author[16] number created next
//	                     live:   n (epoch: distance to the last one, life[16], sealed,
//	                                node-length node)
//	                     shards: runs of (count, epoch) that make 1,024 in all
//
// A heartbeat is a log object without records. The place of a record in the payload is
// not written: the files stand there in the order of the records, without a gap, so that
// no two can overlap and none can be outside.
//
// Whatever is read may have been written by anybody. Decoders bound every length and
// count before they set memory aside, at most some ten times what they are given, and
// return an error that wraps untrusted.ErrDamaged for whatever no encoder of this package
// writes, and one that wraps ErrNewer for a version that they do not know.
package format
