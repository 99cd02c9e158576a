package multidbhttp

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/multidb-go/multidb"
)

const (
	fleetEvents    = 20
	tenantEvents   = 50
	tenantOutcomes = 5
	pagePoints     = 500
)

// fleetView is what the first page shows. It looks at every database at most once a second.
func (s *Server) fleetView(r *http.Request) *fleetView {
	v := &fleetView{page: s.page(r), Started: s.m.Serving(), MaxLag: s.opt.MaxLag, Stats: s.m.Stats(),
		Observed: s.opt.Events != nil, Verbs: s.opt.Verbs}
	var worst []multidb.Status
	v.Healthy, worst = s.healthy()
	for _, st := range worst {
		if st.ID == "" {
			v.General = append(v.General, problem{Text: s.cleanErr(st.Err), Since: st.ErrSince})
		} else {
			v.Worst = append(v.Worst, s.row(st))
		}
	}
	for reason, n := range v.Stats.Unwell {
		if n > 0 {
			v.Unwell = append(v.Unwell, reasonCount{Reason: multidb.Reason(reason).String(), N: n})
		}
	}
	slices.SortStableFunc(v.Unwell, func(a, b reasonCount) int { return int(min(1, max(-1, b.N-a.N))) })
	samples := s.history.all()
	v.Nodes = s.nodesView()
	v.History = s.historyView(samples, v.Now)
	v.Day = s.dayView(samples, &v.Stats, v.Now)
	v.Events = s.eventRows(fleetEvents, func(multidb.Event) bool { return true })
	return v
}

// row is a database in a list.
func (s *Server) row(st multidb.Status) tenantRow {
	return tenantRow{
		ID: string(st.ID), Tier: st.Tier.String(), TXID: txid(st.TXID), Lag: st.Lag, LagBytes: st.LagBytes, Behind: st.Lag > s.opt.MaxLag, SyncedAt: st.SyncedAt,
		Local: st.LocalBytes, Replica: st.ReplicaBytes, Sized: st.ReplicaSized, Resident: st.Resident, Leased: st.Leased,
		Reason: reasonOf(st.Err), Err: s.cleanErr(st.Err), ErrSince: st.ErrSince,
	}
}

func (s *Server) listView(r *http.Request) (*listView, error) {
	q, err := parseQuery(r.URL.Query(), pageLimit)
	if err != nil {
		return nil, err
	}
	f, err := s.find(r.Context(), q)
	if err != nil {
		return nil, err
	}
	v := &listView{page: s.page(r), Query: q, Matches: f.matches, Known: f.known, Reasons: reasonNames()}
	for _, st := range f.rows {
		v.Rows = append(v.Rows, s.row(st))
	}
	if q.After != "" {
		v.First = s.listURL(q, "")
	}
	if f.next != "" {
		v.Next = s.listURL(q, f.next)
	}
	return v, nil
}

// listURL is the page of a list that begins behind an ID.
func (s *Server) listURL(q listQuery, after string) string {
	q.After = after
	return s.opt.Base + "/databases?" + q.values().Encode()
}

func (s *Server) tenantURL(id string) string {
	return s.opt.Base + "/database?" + url.Values{"id": {id}}.Encode()
}

// tenantView is what is known of one database. It asks the replica only with ?points.
func (s *Server) tenantView(r *http.Request) *tenantView {
	id := multidb.ID(r.URL.Query().Get("id"))
	v := &tenantView{page: s.page(r), ID: string(id), Observed: s.opt.Events != nil}
	v.Events = s.eventRows(tenantEvents, func(ev multidb.Event) bool { return ev.ID == id })
	v.Outcomes = s.actions.of(v.ID, tenantOutcomes)
	st, err := s.m.Status(id)
	if err != nil {
		v.Err = s.cleanErr(err)
		return v
	}
	stats := s.m.Stats()
	v.Found, v.Row = true, s.row(st)
	v.FleetLog, v.Drills = stats.FleetLog != (multidb.FleetLogStats{}), stats.Drills != (multidb.DrillStats{})
	v.Unpacked, v.Behind = txid(st.UnpackedTXID), st.UnpackedTXID < st.TXID
	v.ProvedErr = s.cleanErr(st.ProvedErr)
	st.Prefix = s.clean(st.Prefix)
	st.Err, st.ProvedErr = nil, nil // as text, which is clean, in Row and ProvedErr
	v.Status = st
	for _, verb := range s.opt.Verbs {
		v.Verbs = append(v.Verbs, verbLink{Verb: verb, URL: s.confirmURL(verb, v.ID, "")})
	}
	s.addPoints(v, r)
	return v
}

// addPoints adds the restore points, if they are asked for or known from before.
func (s *Server) addPoints(v *tenantView, r *http.Request) {
	id := multidb.ID(v.ID)
	v.PointsURL = s.tenantURL(v.ID) + "&points=show#points"
	l, known := s.points.recall(id, v.Now)
	if !known && r.URL.Query().Has("points") {
		var err error
		if l, err = s.restorePoints(r.Context(), id); err != nil {
			v.PointsErr, v.PointsAt = s.cleanErr(err), v.Now
			return
		}
		known = true
	}
	if !known {
		return
	}
	v.PointsAt, v.PointsMore = l.at, max(0, len(l.points)-pagePoints)
	v.Points = []restorePoint{}
	for _, p := range l.points[:min(pagePoints, len(l.points))] {
		row := restorePoint{TXID: txid(p.txid), CreatedAt: p.created, Whole: p.whole, Level: p.level, Bytes: p.bytes}
		if slices.Contains(s.opt.Verbs, VerbRestore) {
			row.URL = s.confirmURL(VerbRestore, v.ID, row.TXID)
		}
		v.Points = append(v.Points, row)
	}
}

func (s *Server) confirmURL(verb Verb, id, txid string) string {
	q := url.Values{"verb": {string(verb)}, "id": {id}}
	if txid != "" {
		q.Set("txid", txid)
	}
	return s.opt.Base + "/confirm?" + q.Encode()
}

// eventRows are at most n events that want accepts, the newest first.
func (s *Server) eventRows(n int, want func(multidb.Event) bool) []eventRow {
	var rows []eventRow
	for _, ev := range s.opt.Events.last(n, want) {
		rows = append(rows, eventRow{At: ev.Time, Type: ev.Type.String(), ID: string(ev.ID), Err: s.cleanErr(ev.Err), Bad: ev.Err != nil})
	}
	return rows
}
