// Package s3 stores LTX files in S3 and in stores that speak its protocol. It
// is the only importer of the AWS SDK.
//
// One [Client] serves a whole process: one connection pool, one bound on
// requests in flight, one back-off when the store throttles, one set of
// counters. A [Prefix] is a database's view of it, small enough to have 100,000
// of them. Keys and metadata are those of litestream, whose own CLI restores
// what is written here:
//
//	<prefix>/<level %04x>/<min TXID>-<max TXID>.ltx
//	<prefix>/metadata.json
//
// Every HTTP attempt, retries included, passes through one place (transport.go)
// where it waits for the gate, is counted and is watched for stalls.
package s3
