// Package interop holds the tests that need programs of others: versitygw, an
// S3 server that checks signatures, the stock litestream CLI, and Debian's
// sqlite3. They are behind the build tag interop; `make interop` installs the
// programs, runs the tests, and fails rather than skips where one is missing.
package interop
