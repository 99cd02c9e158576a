package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"
)

// Removed is a database that was taken out of service.
type Removed struct {
	ID         string    `json:"id"`
	Path       string    `json:"path"`
	RemovedAt  time.Time `json:"removed_at"`
	EraseAfter time.Time `json:"erase_after"`
}

// EachOrder is SQL that an operator wants executed in many databases.
type EachOrder struct {
	Name        string        `json:"name"` // under which it is remembered what is done
	SQL         string        `json:"sql"`
	UserVersion int32         `json:"user_version,omitempty"` // see the command
	Pattern     string        `json:"pattern,omitempty"`
	Parallel    int           `json:"parallel,omitempty"`
	Canary      int           `json:"canary,omitempty"`
	MaxErrors   int           `json:"max_errors,omitempty"`
	Timeout     time.Duration `json:"timeout_ns,omitempty"`
	Again       bool          `json:"again,omitempty"`
	// DryRun only reports what would be done. It is asked for at an address of its own: a
	// process that does not know it must refuse, and not execute the SQL.
	DryRun bool `json:"-"`
}

// check returns what is wrong with the order. What its numbers may be the process says.
func (o EachOrder) check() error {
	switch {
	case o.Name == "":
		return errors.New("want a name")
	case o.SQL == "":
		return errors.New("want sql")
	case o.UserVersion < 0:
		return fmt.Errorf("user_version is %d; want 1 or more, or 0 to leave it as it is", o.UserVersion)
	}
	return nil
}

// EachOutcome is what became of one database, and how far it is with all. The last one has
// no ID and says how it ended.
type EachOutcome struct {
	ID      string `json:"id,omitempty"`
	Done    bool   `json:"done"` // or it has gone, and was skipped
	DryRun  bool   `json:"dry_run,omitempty"`
	Canary  bool   `json:"canary,omitempty"` // of a dry run: it is one of the first, which are done one after another
	Error   string `json:"error,omitempty"`
	DoneAll int    `json:"done_all"`
	Failed  int    `json:"failed"`
	Skipped int    `json:"skipped"`
	Left    int    `json:"left"`
	Stopped string `json:"stopped,omitempty"` // why some are left
}

// Lifer is an optional interface of a Source, beside Actor. Safe for concurrent use.
type Lifer interface {
	Removed() iter.Seq[Removed]
	// Each executes SQL and tells of each database, and at the end of all. A dry run tells of
	// each that it would be executed in, in their order. An error of tell says that nobody
	// listens. ctx ends it.
	Each(ctx context.Context, o EachOrder, tell func(EachOutcome) error)
	// ForgetEach forgets what is done under a name.
	ForgetEach(ctx context.Context, name string) error
}

func removed(l Lifer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		enc := json.NewEncoder(w)
		for one := range l.Removed() {
			if enc.Encode(one) != nil {
				return // the client has gone
			}
		}
	}
}

func eachOf(l Lifer, dryRun bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o EachOrder
		if !readOrder(w, r, &o) {
			return
		}
		o.DryRun = dryRun
		tell, ok := stream(w)
		if !ok {
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		l.Each(ctx, o, func(out EachOutcome) error {
			err := tell(out)
			if err != nil {
				cancel()
			}
			return err
		})
	}
}

// forgetting is a name that is to be forgotten.
type forgetting struct {
	Name string `json:"name"`
}

func (f forgetting) check() error {
	if f.Name == "" {
		return errors.New("want a name")
	}
	return nil
}

func forgetEach(l Lifer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var f forgetting
		if !readOrder(w, r, &f) {
			return
		}
		if err := l.ForgetEach(r.Context(), f.Name); err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		answer(w, f)
	}
}

// Removed asks for every database that was taken out of service. An error is the last pair.
func (c *Client) Removed(ctx context.Context) iter.Seq2[Removed, error] {
	return func(yield func(Removed, error) bool) {
		res, err := c.get(ctx, "removed", nil)
		if err != nil {
			yield(Removed{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }() // only read from
		lines(ctx, res.Body, yield)
	}
}

// Each has the process execute SQL, or say where it would. It yields what became of each
// database, and at last how it ended; nothing but ctx bounds how long that takes. When the caller stops, nothing more is
// begun. An error is the last pair.
func (c *Client) Each(ctx context.Context, o EachOrder) iter.Seq2[EachOutcome, error] {
	return func(yield func(EachOutcome, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		path := "each"
		if o.DryRun {
			path = "each/plan"
		}
		res, err := c.order(ctx, path, o)
		if err != nil {
			yield(EachOutcome{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }() // only read from
		lines(ctx, res.Body, yield)
	}
}

// ForgetEach has the process forget what is done under a name.
func (c *Client) ForgetEach(ctx context.Context, name string) error {
	res, err := c.order(ctx, "each/forget", forgetting{name})
	if err != nil {
		return err
	}
	return res.Body.Close()
}
