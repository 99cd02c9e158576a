// Command multidb replicates a fleet of SQLite databases whose writers are other
// processes, and is the operator's tool for what is in the replica.
//
//	multidb replicate -config multidb.yaml
//	multidb restore-all -bucket backups -o /data
//
// `multidb help` lists the commands, `multidb help COMMAND` explains one.
//
// # Where the answers come from
//
// ls, status and nodes ask the running replicate of the configuration, through a socket in
// its state directory. If none runs, and for every other command, the replica itself
// is read: that of the configuration file, or one given by flags. So a new machine
// needs no more than the name of a bucket and credentials, from the AWS SDK's usual
// sources (AWS_ACCESS_KEY_ID, …).
//
// What changes something (takeover, adopt, handover, evict, remove, undelete, erase,
// rename, fork, each, drain) is carried out by the running replicate, over the same socket,
// without a restart; if none runs it fails.
//
// # Output
//
// Tables on a terminal, elsewhere JSON, one object a line; -json and -json=false
// choose. Progress, warnings and errors go to standard error.
//
// # Exit codes
//
//	0    all went well
//	1    it failed; the last line on standard error says why. Also where flags name
//	     a place, a pattern or an ID that nothing is at
//	2    the command line or the configuration is wrong: a flag or a file of it that
//	     is not there, cannot be read or is empty
//	3    partly failed: some databases failed, or have a problem now; of nodes: one is
//	     dead, or nobody serves some of the databases; of drain: the time was up
//	4    another node of the cluster serves the database: the last line says which,
//	     and the same command does it there
//	130  interrupted; 143: by SIGTERM
//
// A reader that closes the pipe (| head) does not count as a failure, except of
// restore -o -, which writes a database there.
package main
