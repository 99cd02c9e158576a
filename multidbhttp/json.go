package multidbhttp

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/multidb-go/multidb"
)

// What the API answers with. API.md describes it; the names are those of `multidb ls -json`
// and `multidb status -json`. Durations are nanoseconds.

type readyJSON struct {
	Ready   bool          `json:"ready"`
	Reasons []problemJSON `json:"reasons,omitempty"` // to those who may read
}

type problemJSON struct {
	ID     string        `json:"id,omitempty"`
	Error  string        `json:"error"`
	Reason string        `json:"reason,omitempty"`
	Lag    time.Duration `json:"lag_ns,omitempty"`
	Since  time.Time     `json:"error_since,omitzero"`
}

type tenantJSON struct {
	ID             string            `json:"id"`
	Path           string            `json:"path"`
	Vars           map[string]string `json:"vars,omitempty"`
	Replica        string            `json:"replica,omitempty"`
	Tier           string            `json:"tier"`
	TXID           string            `json:"txid,omitempty"`
	Unpacked       string            `json:"unpacked_txid,omitempty"`
	SyncedAt       time.Time         `json:"synced_at,omitzero"`
	LastWrite      time.Time         `json:"last_write,omitzero"`
	Lag            time.Duration     `json:"lag_ns"`
	LagBytes       int64             `json:"lag_bytes"`
	Pending        time.Time         `json:"pending_since,omitzero"`
	WALSize        int64             `json:"wal_size"`
	WALPos         int64             `json:"wal_pos"`
	Leased         bool              `json:"leased"`
	Resident       bool              `json:"resident"`
	LocalBytes     int64             `json:"local_bytes"`
	ReplicaBytes   int64             `json:"replica_bytes"`
	ReplicaObjects int64             `json:"replica_objects"`
	ReplicaSized   bool              `json:"replica_sized"`
	MonthlyCost    float64           `json:"monthly_cost_usd"`
	ProvedAt       time.Time         `json:"proved_at,omitzero"`
	ProvedError    string            `json:"proved_error,omitempty"`
	Error          string            `json:"error,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	ErrSince       time.Time         `json:"error_since,omitzero"`
	Failures       int               `json:"failures"`
}

func (s *Server) tenantJSON(st multidb.Status) tenantJSON {
	t := tenantJSON{
		ID: string(st.ID), Path: st.Path, Replica: s.clean(st.Prefix), Tier: st.Tier.String(),
		TXID: txid(st.TXID), Unpacked: txid(st.UnpackedTXID), SyncedAt: st.SyncedAt, LastWrite: st.LastWrite,
		Lag: st.Lag, LagBytes: st.LagBytes, Pending: st.PendingSince, WALSize: st.WALSize, WALPos: st.WALPos,
		Leased: st.Leased, Resident: st.Resident, LocalBytes: st.LocalBytes,
		ReplicaBytes: st.ReplicaBytes, ReplicaObjects: st.ReplicaObjects, ReplicaSized: st.ReplicaSized,
		MonthlyCost: s.opt.Prices.monthly(st.ReplicaBytes),
		ProvedAt:    st.ProvedAt, ProvedError: s.cleanErr(st.ProvedErr),
		Error: s.cleanErr(st.Err), Reason: reasonOf(st.Err), ErrSince: st.ErrSince, Failures: st.Failures,
	}
	for _, v := range st.Vars {
		if t.Vars == nil {
			t.Vars = map[string]string{}
		}
		t.Vars[v.Name] = v.Value
	}
	return t
}

type listJSON struct {
	Databases []tenantJSON `json:"databases"`
	Next      string       `json:"next,omitempty"` // what "after" has to be for the next page
	Matches   int          `json:"matches"`
	Known     int          `json:"known"`
}

type statsJSON struct {
	At             time.Time        `json:"at"`
	Databases      int              `json:"databases"`
	Evicted        int              `json:"evicted"`
	Cold           int              `json:"cold"`
	Warm           int              `json:"warm"`
	Hot            int              `json:"hot"`
	Running        int              `json:"running"`
	Failing        int              `json:"failing"`
	Stopped        int              `json:"stopped"`
	Pending        int              `json:"pending"`
	Ignored        int              `json:"ignored"`
	FailingScans   int              `json:"failing_scans"`
	Unwell         map[string]int64 `json:"unwell"`
	Promotions     int64            `json:"promotions"`
	Demotions      int64            `json:"demotions"`
	Transactions   int64            `json:"transactions"`
	Bytes          int64            `json:"bytes"`
	Resyncs        int64            `json:"resyncs"`
	Compactions    int64            `json:"compactions"`
	Snapshots      int64            `json:"snapshots"`
	Failures       int64            `json:"failures"`
	FailuresBy     map[string]int64 `json:"failures_by"`
	LagP50         time.Duration    `json:"lag_p50_ns"`
	LagP99         time.Duration    `json:"lag_p99_ns"`
	Lag            lagJSON          `json:"lag"`
	LocalBytes     int64            `json:"local_bytes"`
	ReplicaBytes   int64            `json:"replica_bytes"`
	ReplicaObjects int64            `json:"replica_objects"`
	ReplicaUnsized int              `json:"replica_unsized"`
	MonthlyCost    float64          `json:"monthly_cost_usd"`
	Requests       requestsJSON     `json:"requests"`
	RequestCost    float64          `json:"requests_cost_usd"`
	Pool           poolJSON         `json:"pool"`
	Disk           *diskJSON        `json:"disk,omitempty"`
	FleetLog       *logJSON         `json:"fleet_log,omitempty"`
	Drills         *drillsJSON      `json:"drills,omitempty"`
}

type lagJSON struct {
	Count   int64           `json:"count"`
	Sum     time.Duration   `json:"sum_ns"`
	Bounds  []time.Duration `json:"bounds_ns"`
	Buckets []int64         `json:"buckets"` // the smaller ones included
}

type requestsJSON struct {
	Put       int64 `json:"put"`
	Get       int64 `json:"get"`
	List      int64 `json:"list"`
	Head      int64 `json:"head"`
	Delete    int64 `json:"delete"`
	Errors    int64 `json:"errors"`
	Throttled int64 `json:"throttled"`
	BytesOut  int64 `json:"bytes_out"`
	BytesIn   int64 `json:"bytes_in"`
}

type poolJSON struct {
	Open      int   `json:"open"`
	Leased    int   `json:"leased"`
	Idle      int   `json:"idle"`
	Waiting   int   `json:"waiting"`
	Opens     int64 `json:"opens"`
	Hits      int64 `json:"hits"`
	Evictions int64 `json:"evictions"`
}

type diskJSON struct {
	Limit     int64 `json:"limit"`
	Used      int64 `json:"used"`
	Evictions int64 `json:"evictions"`
	Failures  int64 `json:"failures"`
}

type logJSON struct {
	Epoch     uint64 `json:"epoch"`
	Objects   int64  `json:"objects"`
	Files     int64  `json:"files"`
	Bytes     int64  `json:"bytes"`
	Queued    int    `json:"queued"`
	Pending   int    `json:"pending"`
	Tails     int    `json:"tails"`
	TailBytes int64  `json:"tail_bytes"`
	Unpacks   int64  `json:"unpacks"`
	Fenced    bool   `json:"fenced"`
}

type drillsJSON struct {
	Done      int64     `json:"done"`
	Failed    int64     `json:"failed"`
	Postponed int64     `json:"postponed"`
	Unproved  int       `json:"unproved"`
	Failing   int       `json:"failing"`
	Oldest    time.Time `json:"oldest,omitzero"`
}

func (s *Server) statsJSON(st multidb.Stats) statsJSON {
	bounds := multidb.LagBounds()
	j := statsJSON{
		At: time.Now(), Databases: st.Databases, Evicted: st.Evicted, Cold: st.Cold, Warm: st.Warm, Hot: st.Hot,
		Running: st.Running, Failing: st.Failing, Stopped: st.Stopped, Pending: st.Pending, Ignored: st.Ignored,
		FailingScans: st.FailingScans, Unwell: byReason(st.Unwell), Promotions: st.Promotions, Demotions: st.Demotions,
		Transactions: st.Transactions, Bytes: st.Bytes, Resyncs: st.Resyncs, Compactions: st.Compactions,
		Snapshots: st.Snapshots, Failures: st.Failures, FailuresBy: byReason(st.FailuresBy),
		LagP50: st.LagP50, LagP99: st.LagP99,
		Lag:        lagJSON{Count: st.Lag.Count, Sum: st.Lag.Sum, Bounds: bounds[:], Buckets: st.Lag.Buckets[:]},
		LocalBytes: st.LocalBytes, ReplicaBytes: st.ReplicaBytes, ReplicaObjects: st.ReplicaObjects,
		ReplicaUnsized: st.ReplicaUnsized, MonthlyCost: s.opt.Prices.monthly(st.ReplicaBytes),
		Requests: requestsJSON(st.Requests), RequestCost: s.opt.Prices.requests(st.Requests), Pool: poolJSON(st.Pool),
	}
	if st.Disk.Limit > 0 {
		j.Disk = new(diskJSON(st.Disk))
	}
	if st.FleetLog != (multidb.FleetLogStats{}) {
		j.FleetLog = new(logJSON(st.FleetLog))
	}
	if st.Drills != (multidb.DrillStats{}) {
		j.Drills = new(drillsJSON{Done: st.Drills.Done, Failed: st.Drills.Failed, Postponed: st.Drills.Postponed,
			Unproved: st.Drills.Unproved, Failing: st.Drills.Failing, Oldest: st.Drills.Oldest})
	}
	return j
}

// byReason leaves out the reasons that there are none of.
func byReason(n multidb.ByReason) map[string]int64 {
	m := map[string]int64{}
	for r, count := range n {
		if count > 0 {
			m[multidb.Reason(r).String()] = count
		}
	}
	return m
}

type pointsJSON struct {
	ID     string      `json:"id"`
	At     time.Time   `json:"at"` // when the replica was asked
	Points []pointJSON `json:"points"`
	More   int         `json:"more"` // older ones, which are left out
}

type pointJSON struct {
	TXID      string    `json:"txid"`
	CreatedAt time.Time `json:"created_at"`
	Whole     bool      `json:"whole"`
	Level     int       `json:"level"`
	Bytes     int64     `json:"bytes"`
}

type eventsJSON struct {
	Events []eventJSON `json:"events"`
}

type eventJSON struct {
	At     time.Time `json:"at"`
	Type   string    `json:"type"`
	ID     string    `json:"id,omitempty"`
	Path   string    `json:"path,omitempty"`
	TXID   string    `json:"txid,omitempty"`
	Epoch  uint64    `json:"epoch,omitempty"`
	Shards int       `json:"shards,omitempty"`
	Error  string    `json:"error,omitempty"`
}

type actJSON struct {
	Confirm string `json:"confirm"` // the ID once more
	TXID    string `json:"txid"`    // of restore; empty: the newest state
}

type doneJSON struct {
	Verb   string        `json:"verb"`
	ID     string        `json:"id"`
	Done   bool          `json:"done"`
	TXID   string        `json:"txid,omitempty"`
	Path   string        `json:"path,omitempty"` // of a restored file
	Kept   string        `json:"kept,omitempty"` // where adopt has put the former file
	Took   time.Duration `json:"took_ns"`
	Error  string        `json:"error,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

type errorJSON struct {
	Error string `json:"error"`
}

// txid is a TXID as text; empty: none.
func txid(t multidb.TXID) string {
	if t == 0 {
		return ""
	}
	return t.String()
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return multidb.ReasonOf(err).String()
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone: all of these can be encoded
}

func writeError(w http.ResponseWriter, status int, why string) {
	writeJSON(w, status, errorJSON{Error: why})
}

// apiStats is GET /api/v1/stats.
func (s *Server) apiStats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.statsJSON(s.m.Stats()))
}

// apiList is GET /api/v1/databases.
func (s *Server) apiList(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query(), maxLimit)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	f, err := s.find(r.Context(), q)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, s.cleanErr(err))
		return
	}
	answer := listJSON{Databases: make([]tenantJSON, 0, len(f.rows)), Next: f.next, Matches: f.matches, Known: f.known}
	for _, st := range f.rows {
		answer.Databases = append(answer.Databases, s.tenantJSON(st))
	}
	writeJSON(w, http.StatusOK, answer)
}

// apiTenant is GET /api/v1/database?id=.
func (s *Server) apiTenant(w http.ResponseWriter, r *http.Request) {
	id, ok := wantID(w, r)
	if !ok {
		return
	}
	st, err := s.m.Status(id)
	if err != nil {
		writeError(w, statusOf(err), s.cleanErr(err))
		return
	}
	writeJSON(w, http.StatusOK, s.tenantJSON(st))
}

// apiPoints is GET /api/v1/restore-points?id=.
func (s *Server) apiPoints(w http.ResponseWriter, r *http.Request) {
	id, ok := wantID(w, r)
	if !ok {
		return
	}
	limit, ok := wantLimit(w, r, maxLimit)
	if !ok {
		return
	}
	l, err := s.restorePoints(r.Context(), id)
	if err != nil {
		writeError(w, statusOf(err), s.cleanErr(err))
		return
	}
	answer := pointsJSON{ID: string(id), At: l.at, Points: []pointJSON{}, More: max(0, len(l.points)-limit)}
	for _, p := range l.points[:min(limit, len(l.points))] {
		answer.Points = append(answer.Points, pointJSON{TXID: txid(p.txid), CreatedAt: p.created, Whole: p.whole, Level: p.level, Bytes: p.bytes})
	}
	writeJSON(w, http.StatusOK, answer)
}

// apiEvents is GET /api/v1/events, with id= of one database.
func (s *Server) apiEvents(w http.ResponseWriter, r *http.Request) {
	if s.opt.Events == nil {
		writeError(w, http.StatusNotFound, "no events are kept: Options.Events is not set")
		return
	}
	limit, ok := wantLimit(w, r, eventsKept)
	if !ok {
		return
	}
	id, one := multidb.ID(r.URL.Query().Get("id")), r.URL.Query().Has("id")
	answer := eventsJSON{Events: []eventJSON{}}
	for _, ev := range s.opt.Events.last(limit, func(ev multidb.Event) bool { return !one || ev.ID == id }) {
		answer.Events = append(answer.Events, eventJSON{At: ev.Time, Type: ev.Type.String(), ID: string(ev.ID),
			Path: s.clean(ev.Path), TXID: txid(ev.TXID), Epoch: ev.Epoch, Shards: ev.Shards, Error: s.cleanErr(ev.Err)})
	}
	writeJSON(w, http.StatusOK, answer)
}

// wantID reads the parameter id.
func wantID(w http.ResponseWriter, r *http.Request) (multidb.ID, bool) {
	id := r.URL.Query().Get("id")
	if id == "" {
		writeError(w, http.StatusBadRequest, "id is missing: write ?id= and the ID, percent-encoded")
	}
	return multidb.ID(id), id != ""
}

// wantLimit reads the parameter limit.
func wantLimit(w http.ResponseWriter, r *http.Request, most int) (int, bool) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return min(pageLimit, most), true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		writeError(w, http.StatusBadRequest, "limit is "+strconv.Quote(text)+"; want a number from 1 to "+strconv.Itoa(most))
		return 0, false
	}
	return n, true
}
