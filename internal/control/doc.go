// Package control lets operators' commands query a running multidb, and tell it whose
// history of a database counts: HTTP over a unix socket in its state directory. It
// carries no secret.
//
//	GET /v1/fleet?max_lag=1m   one Fleet
//	GET /v1/tenants            one Tenant a line
//	GET /v1/tenant?id=a/b      one Tenant; 404 with an Error if there is none, 421 if another node has it
//	POST /v1/act               takes an Order; one Outcome a line as each is done
//	GET /v1/nodes              one Cluster; 409 where the process is no node
//	POST /v1/drain             takes a timeout; one Drained a line as it goes
//
// The socket may be used by its owner and by root only. A directory that others
// can write is refused on both sides: they could put a socket of their own there, and
// make an operator believe that nothing is wrong.
package control
