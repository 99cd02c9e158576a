// Package multidbhttp serves what a multidb.Manager knows: a page for whoever is called at
// night, the same as JSON for programs, health checks, and metrics. Its Router brings the requests
// of an application to the node of a cluster that serves their database.
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
// The first page and /readyz look at every database at most once a second. Lists go by an
// index, which is made when somebody asks, at most once a second and in a tenth of the time at
// most: a new database may be missing for as long. One sample of Stats a minute is kept for a
// day: 700 KB, however many databases there are. The replica is asked only for restore points: one
// listing, at most once a minute for each database.
//
// # Routing
//
// In a cluster each database is served by one node. Router, which has nothing to do with the Server,
// stands before an application's own handlers on every node, and passes each request on to the node of its
// database. A load balancer in front may choose any node:
//
//	tenant := func(r *http.Request) (multidb.ID, error) { return idOf(r.Host) }
//	router, err := multidbhttp.Router(manager, tenant, handler, multidbhttp.RouterOptions{Secret: secret})
//
// and the handler says so if its database has just gone:
//
//	err := manager.Do(r.Context(), id, serve)
//	if multidbhttp.NotOwner(w, r, err) {
//		return
//	}
//
// API.md says which headers nodes send each other. Between nodes a request needs a connection, and
// memory for what is kept of its body (RouterOptions.MaxRetryBody).
package multidbhttp
