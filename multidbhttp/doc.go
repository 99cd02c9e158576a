// Package multidbhttp serves what a multidb.Manager knows: a page for whoever is called at
// night, the same as JSON for programs, health checks, and metrics.
//
//	server, err := multidbhttp.Handler(manager, multidbhttp.Options{})
//	listener, err := server.Listen(ctx, multidbhttp.DefaultAddr)
//	err = server.Serve(ctx, listener) // until ctx ends
//
// `multidb replicate -listen 127.0.0.1:9460` does this for the sidecar. A program that has an
// http.Server mounts the Server in it, below Options.Base, and calls Run.
//
// # What there is
//
//	/                    the fleet at a glance: tiers, lag, requests and dollars, what fails and why
//	/databases           a list, by ID, with a search
//	/database?id=        one database, its restore points and its last events
//	/healthz, /readyz    whether the process lives, and whether all is well
//	/metrics             what Options.Metrics answers
//	/api/v1/…            the same as JSON: API.md, beside this package, names every field
//
// The page is made by the Server. It needs no script, which only fetches it again every few
// seconds, and nothing from elsewhere.
//
// # Who may read, and do
//
// Without a token only connections that come in by a loopback address are served; Listen
// refuses any other address. With Options.Token each request needs it. Names of this host other than its
// addresses have to be listed (Options.Hosts), and requests that a page of another site sends
// are refused.
//
// Nothing can be done by it unless Options.Verbs allows it, and then everybody may who may read: give
// the page a token. Each verb is confirmed: by a form that can be sent once, within ten
// minutes, from the session that was shown it, and by the API with the ID once more. A restore goes to a new
// file below Options.RestoreDir; keep that out of the discovery's patterns, or what was
// restored is found as a database.
//
// # What it costs
//
// The first page and /readyz look at every database at most once a second, a list at each
// request, two at a time; with 100,000 databases that is a few tenths of a second. One sample of
// Stats a minute is kept for a day: 700 KB, however many databases there are. The replica is asked
// only for restore points: one listing, at most once a minute for each database.
package multidbhttp
