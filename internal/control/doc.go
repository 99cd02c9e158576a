// Package control lets operators' commands query a running multidb, and tell it whose
// history of a database counts: HTTP over a unix socket in its state directory. It
// carries no secret.
//
//	GET /v1/fleet?max_lag=1m   one Fleet
//	GET /v1/tenants            one Tenant a line
//	GET /v1/tenant?id=a/b      one Tenant; 404 with an Error if there is none
//	POST /v1/act               takes an Order; one Outcome a line as each is done
//
// The socket may be used by its owner and by root only. A directory that others
// can write is refused on both sides: they could put a socket of their own there, and
// make an operator believe that nothing is wrong.
package control
