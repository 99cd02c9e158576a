package multidbhttp

import (
	"time"

	"github.com/multidb-go/multidb"
)

// What the templates are given. Values are as the Manager has them: how they are written is
// the templates' to say. Zero times are unknown.

// page is what every page has.
type page struct {
	Base     string // before every link and asset
	Fleet    string // Options.Title
	Now      time.Time
	LoggedIn bool // by a cookie: POST Base/logout ends it
	Err      string
}

// fleetView is the fleet at a glance: GET /.
type fleetView struct {
	page
	Started  error // nil; why the Manager serves nothing: not started, or closed
	Healthy  bool
	MaxLag   time.Duration
	Worst    []tenantRow // at most ten, those with an error first
	General  []problem   // what concerns no single database: listings, the fleet log
	Stats    multidb.Stats
	Nodes    *nodesView    // nil: there is no cluster
	Unwell   []reasonCount // those above zero, the most first
	History  historyView
	Day      dayView
	Events   []eventRow // the newest first; at most 20
	Observed bool       // Options.Events is set
	Verbs    []Verb     // that the caller allows
}

type problem struct {
	Text  string
	Since time.Time
}

type reasonCount struct {
	Reason string // also the value of ?reason=
	N      int64
}

// historyView is what happened over the last day: columns of equal length, the oldest first.
type historyView struct {
	Sampled bool // Run is or was in progress
	From    time.Time
	To      time.Time
	Bounds  []time.Duration // of the lag's buckets; what is above the last has one more
	Columns []historyColumn // at most 96
}

type historyColumn struct {
	From, To  time.Time
	Known     bool    // there were samples
	Lag       []int64 // commits by bucket (not cumulative), len(Bounds)+1
	Commits   int64   // their sum
	P50, P99  time.Duration
	Requests  int64
	Dollars   float64 // for the requests
	Failing   int     // at its end
	Stopped   int
	UnwellAll int64
}

// dayView is requests and dollars a day: what was counted over Over, times 24 hours / Over.
type dayView struct {
	Over            time.Duration // zero: not known yet
	Requests        multidb.RequestStats
	RequestDollars  float64 // a day
	StorageDollars  float64 // a day: a 30th of what its bytes cost for a month
	Dollars         float64 // the sum
	MonthlyDollars  float64 // 30 times that
	StorageGBMonthP float64 // the price that was used
}

// tenantRow is a database in a list.
type tenantRow struct {
	ID       string
	Tier     string
	TXID     string // hex; empty: nothing is durable
	Lag      time.Duration
	LagBytes int64
	Behind   bool // Lag is above Options.MaxLag
	SyncedAt time.Time
	Local    int64
	Replica  int64
	Sized    bool // Replica is known
	Resident bool
	Leased   bool
	Reason   string // why it fails; empty: it does not
	Err      string
	ErrSince time.Time
}

// listQuery is what a list was asked for, as the parameters of the URL have it.
type listQuery struct {
	Q        string // q: part of an ID, letters of either case
	Tier     string // tier: cold, warm or hot
	Reason   string // reason: one of multidb.Reasons, or "any"
	Resident string // resident: true or false
	After    string // after: the ID behind which the page begins
	Limit    int
}

// listView is GET /databases: one page of a list, by ID.
type listView struct {
	page
	Query   listQuery
	Rows    []tenantRow
	Matches int    // with the filter, on all pages
	Known   int    // without it
	First   string // URL of the first page; empty: this is it
	Next    string // URL of the next page; empty: this is the last
	Reasons []string
}

// tenantView is GET /database?id=.
type tenantView struct {
	page
	Found      bool // false: only ID and Err are set
	ID         string
	Row        tenantRow
	Status     multidb.Status
	Unpacked   string // hex
	Behind     bool   // the prefix lacks some of the fleet log
	FleetLog   bool
	Drills     bool // there are drills
	ProvedErr  string
	Events     []eventRow // the newest first; at most 50
	Observed   bool
	Verbs      []verbLink
	Points     []restorePoint // the newest first; nil until they are asked for
	PointsAt   time.Time      // when the replica was asked; zero: it was not
	PointsErr  string
	PointsMore int    // older ones that are left out
	PointsURL  string // asks for them: a link, since it costs a request
	Outcomes   []outcome
}

// restorePoint is a transaction that a restore can end at.
type restorePoint struct {
	TXID      string // hex
	CreatedAt time.Time
	Whole     bool // a snapshot
	Level     int
	Bytes     int64
	URL       string // of the confirmation of a restore to it; empty: not allowed
}

// eventRow is an event.
type eventRow struct {
	At   time.Time
	Type string
	ID   string // empty: the fleet's own
	Err  string
	Bad  bool // it tells of a failure
}

// verbLink is something that can be done to a database; URL is its confirmation.
type verbLink struct {
	Verb Verb
	URL  string
}

// confirmView is GET /confirm?verb=&id=: it says what would be done, and has the form that
// does it, by POST to Action.
type confirmView struct {
	page
	Verb   Verb
	ID     string
	Row    tenantRow
	Action string
	Fields []field // hidden: they go with the form
	TypeID bool    // the form has to have the ID typed, in "typed"
	Into   string  // of VerbRestore: the directory
	TXID   string  // of VerbRestore: up to which; empty: the newest state
	Back   string  // URL of the database
}

type field struct{ Name, Value string }

// outcome is what became of a verb.
type outcome struct {
	Key  string
	Verb Verb
	ID   string
	At   time.Time
	Took time.Duration
	Text string // what was done
	Err  string // or why not
}

// loginView is the form that asks for the token, by POST to Action in "token".
type loginView struct {
	page
	Action string
	To     string // hidden field "to": where to go then
}
