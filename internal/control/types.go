package control

import (
	"errors"
	"iter"
	"time"
)

// Socket is the name of the socket in the state directory.
const Socket = "control.sock"

// ErrNotFound is returned for a tenant that the process does not know.
var ErrNotFound = errors.New("no such database")

// ErrNotRunning is returned by Dial when nobody serves the directory.
var ErrNotRunning = errors.New("no multidb replicate is running")

// ErrUnsafe is returned when a directory can be written by others.
var ErrUnsafe = errors.New("others can write to it")

// Tenant is the status of one database. Durations are in nanoseconds.
type Tenant struct {
	ID        string        `json:"id"`
	Path      string        `json:"path"`
	Replica   string        `json:"replica,omitempty"`
	Tier      string        `json:"tier"`
	TXID      string        `json:"txid,omitempty"`          // durable
	Unpacked  string        `json:"unpacked_txid,omitempty"` // in the prefix
	FleetLog  bool          `json:"fleet_log,omitempty"`     // the rest may be in a fleet log
	SyncedAt  time.Time     `json:"synced_at,omitzero"`
	LastWrite time.Time     `json:"last_write,omitzero"`
	Lag       time.Duration `json:"lag_ns"`
	LagBytes  int64         `json:"lag_bytes"`
	Pending   time.Time     `json:"pending_since,omitzero"` // a change that stays local for now
	WALSize   int64         `json:"wal_size"`
	WALPos    int64         `json:"wal_pos"` // bytes of it in use
	Error     string        `json:"error,omitempty"`
	Reason    string        `json:"reason,omitempty"` // of the error, in a word or two
	ErrSince  time.Time     `json:"error_since,omitzero"`
	Failures  int           `json:"failures,omitempty"`
	Evicted   bool          `json:"evicted,omitempty"` // it has no local file now, on purpose

	LocalBytes     int64     `json:"local_bytes"`
	ReplicaBytes   int64     `json:"replica_bytes"`
	ReplicaObjects int64     `json:"replica_objects"`
	ReplicaSized   bool      `json:"replica_sized"`      // else the two are not known
	MonthlyCost    float64   `json:"monthly_cost_usd"`   // of the replica's bytes
	ProvedAt       time.Time `json:"proved_at,omitzero"` // by a drill
	ProvedError    string    `json:"proved_error,omitempty"`
}

// Fleet is the sum of all databases.
type Fleet struct {
	PID          int              `json:"pid"`
	Version      string           `json:"version"`
	Started      time.Time        `json:"started"`
	Replica      string           `json:"replica"`
	Node         string           `json:"node,omitempty"`   // of a cluster; empty: it is none
	Shards       int              `json:"shards,omitempty"` // of 1,024 that the node serves
	Healthy      bool             `json:"healthy"`
	Worst        []Tenant         `json:"worst,omitempty"`      // databases with a problem, ten at most
	NotWell      map[string]int64 `json:"not_well,omitempty"`   // all databases with a problem, by reason
	ScanError    string           `json:"scan_error,omitempty"` // why the databases could not all be listed
	Databases    int              `json:"databases"`
	Hot          int              `json:"hot"`
	Warm         int              `json:"warm"`
	Cold         int              `json:"cold"`
	Failing      int              `json:"failing"`
	Stopped      int              `json:"stopped"`
	Pending      int              `json:"pending"`          // with a change that is left local
	Ignored      int              `json:"ignored"`          // files that are no database
	Unwell       map[string]int64 `json:"unwell,omitempty"` // databases with an error, by reason
	Transactions int64            `json:"transactions"`
	Bytes        int64            `json:"bytes"`
	Requests     int64            `json:"requests"`
	LagP50       time.Duration    `json:"lag_p50_ns"`
	LagP99       time.Duration    `json:"lag_p99_ns"`
	FleetLog     *FleetLog        `json:"fleet_log,omitempty"` // nil: there is none

	LocalBytes     int64   `json:"local_bytes"`
	ReplicaBytes   int64   `json:"replica_bytes"`
	ReplicaObjects int64   `json:"replica_objects"`
	ReplicaUnsized int     `json:"replica_unsized,omitempty"` // databases that are not in these
	MonthlyCost    float64 `json:"monthly_cost_usd"`
	Drills         *Drills `json:"drills,omitempty"` // nil: there are none
}

// Drills are what drills did, and what they have proved.
type Drills struct {
	Done      int64     `json:"done"`
	Failed    int64     `json:"failed"`
	Postponed int64     `json:"postponed"`
	Unproved  int       `json:"unproved"` // databases that none has proved
	Failing   int       `json:"failing"`  // databases whose last one failed
	Oldest    time.Time `json:"oldest,omitzero"`
}

// FleetLog is what a process did with its fleet log, and what that has which prefixes lack.
type FleetLog struct {
	Path      string `json:"path"`  // its directory at the replica
	Epoch     uint64 `json:"epoch"` // 0: nothing was written yet
	Objects   int64  `json:"objects"`
	Files     int64  `json:"files"`
	Bytes     int64  `json:"bytes"`
	Queued    int    `json:"queued"`  // files that are not acknowledged
	Pending   int    `json:"pending"` // objects that hold what a prefix lacks
	Tails     int    `json:"tails"`   // databases whose prefix lacks something
	TailBytes int64  `json:"tail_bytes"`
	Unpacks   int64  `json:"unpacks"`
	Fenced    bool   `json:"fenced"`
	Error     string `json:"error,omitempty"`
}

// Source is what a process serves. Safe for concurrent use.
type Source interface {
	// Fleet's Healthy and Worst count a lag up to maxLag as well.
	Fleet(maxLag time.Duration) Fleet
	Tenants() iter.Seq[Tenant]
	// Tenant returns an error that wraps ErrNotFound if there is none, and ErrNotOwner if another
	// node has it.
	Tenant(id string) (Tenant, error)
}

// Error is the body of an answer that is not 200.
type Error struct {
	Error string `json:"error"`
}
