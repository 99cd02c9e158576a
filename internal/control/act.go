package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// The verbs of an Order.
const (
	TakeOver = "takeover" // the local file wins
	Adopt    = "adopt"    // the replica wins
	HandOver = "handover" // ship what is left and let go
	Evict    = "evict"    // off the local disk
	Remove   = "remove"   // out of service
	Undelete = "undelete" // and back
	Erase    = "erase"    // for good
	Rename   = "rename"   // to the ID in To
	Fork     = "fork"     // a copy with the ID in To
)

// verbs are all of them. Those whose All means something come first.
var verbs = []string{TakeOver, Adopt, HandOver, Evict, Remove, Undelete, Erase, Rename, Fork}

const withAll = 3

// Order is what an operator wants done with some databases.
type Order struct {
	Verb string   `json:"verb"`
	IDs  []string `json:"ids,omitempty"`
	// All means, instead of IDs, every database that is fenced; of HandOver every one.
	All bool `json:"all,omitempty"`
	// DryRun only reports what would be done.
	DryRun bool `json:"dry_run,omitempty"`
	// To is the new ID, and TXID or Timestamp the state that is forked; neither: the newest.
	To        string    `json:"to,omitempty"`
	TXID      uint64    `json:"txid,omitempty"`
	Timestamp time.Time `json:"timestamp,omitzero"`
}

// check returns what is wrong with an order.
func (o Order) check() error {
	verb := slices.Index(verbs, o.Verb)
	two := o.Verb == Rename || o.Verb == Fork
	switch {
	case verb < 0:
		return fmt.Errorf("no verb %q; there are %s", o.Verb, strings.Join(verbs, ", "))
	case o.All == (len(o.IDs) > 0):
		return errors.New("want ids, or all")
	case o.All && verb >= withAll:
		return fmt.Errorf("%s wants ids: it is not done to all", o.Verb)
	case two != (o.To != ""), two && len(o.IDs) != 1:
		return fmt.Errorf("want one id and a new one for %s or %s, and no new one for others", Rename, Fork)
	case o.Verb != Fork && (o.TXID != 0 || !o.Timestamp.IsZero()):
		return fmt.Errorf("a state of the past is for %s alone", Fork)
	}
	return nil
}

// Outcome is what became of one database.
type Outcome struct {
	ID     string `json:"id"`
	Verb   string `json:"verb"`
	DryRun bool   `json:"dry_run,omitempty"`
	// Done says that it was done, and that nothing failed.
	Done bool `json:"done"`
	// Fenced says that it was fenced before, and Why by which two writers. Would says
	// what is done unless it is a dry run.
	Fenced bool   `json:"fenced"`
	Why    string `json:"why,omitempty"`
	Would  string `json:"would,omitempty"`
	Path   string `json:"path,omitempty"`
	Kept   string `json:"kept,omitempty"` // where the local file was set aside
	TXID   string `json:"txid,omitempty"` // that the replica has now
	Error  string `json:"error,omitempty"`
	// NotFound says that the process does not know the database.
	NotFound bool `json:"not_found,omitempty"`
	// NotOwner says that another node of the cluster serves it; Error says which one.
	NotOwner bool   `json:"not_owner,omitempty"`
	To       string `json:"to,omitempty"` // the new ID
	// Erased is what an erasure deleted, or would.
	Erased *Erased `json:"erased,omitempty"`
}

// Erased is what an erasure did.
type Erased struct {
	Prefix   string    `json:"prefix"`
	At       time.Time `json:"at,omitzero"`
	Objects  int64     `json:"objects"`
	Versions int64     `json:"versions"`
	Bytes    int64     `json:"bytes"`
	Local    []string  `json:"local,omitempty"`
	LogUntil time.Time `json:"log_until,omitzero"` // until when the fleet log has something of it
	Complete bool      `json:"complete"`
	Left     []Left    `json:"left,omitempty"`
}

// Left is something that could not be erased.
type Left struct {
	What string `json:"what,omitempty"`
	Why  string `json:"why"`
}

// Actor is an optional interface of a Source: it carries out orders. Safe for
// concurrent use.
type Actor interface {
	// Chosen lists the databases that All of an order means.
	Chosen(verb string) []string
	// Act does to one database what the order says, and returns when it is done, has
	// failed, or ctx has ended.
	Act(ctx context.Context, o Order, id string) Outcome
}

// parallelActs bounds how many databases of one order are worked on at a time. What
// they ship is bounded by the process itself.
const parallelActs = 16

// maxOrder is the largest order, in bytes: as many IDs as a command line has room for.
const maxOrder = 16 << 20

// act carries out an order and writes an Outcome a line as each database is done. When
// the client disconnects, nothing more is begun.
func act(a Actor) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o Order
		if !readOrder(w, r, &o) {
			return
		}
		ids := o.IDs
		if o.All {
			ids = a.Chosen(o.Verb)
		}
		o.IDs = nil
		tell, ok := stream(w)
		if !ok {
			return
		}
		carryOut(r.Context(), a, o, ids, func(out Outcome) error { return tell(out) })
	}
}

// readOrder reads and checks an order. Where it returns false it has answered.
func readOrder(w http.ResponseWriter, r *http.Request, o interface{ check() error }) bool {
	// The server notices that the client has gone only when the body was read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err == nil {
		err = json.Unmarshal(body, o)
	}
	if err != nil {
		err = fmt.Errorf("the order: %w", err)
	} else {
		err = o.check()
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
	}
	return err == nil
}

// stream begins an answer of any number of lines, and returns what writes one. Where it
// returns false it has answered, or the client has gone.
func stream(w http.ResponseWriter) (tell func(any) error, ok bool) {
	// A whole database may have to be shipped or restored, so the server's time
	// limits for queries do not apply: the client decides how long it waits.
	conn := http.NewResponseController(w)
	if err := errors.Join(conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(time.Time{})); err != nil {
		fail(w, http.StatusInternalServerError, err)
		return nil, false
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	return func(v any) error { return errors.Join(json.NewEncoder(w).Encode(v), conn.Flush()) }, conn.Flush() == nil
}

// carryOut acts on the databases, several at a time, and reports each. It ends early
// when a report cannot be delivered.
func carryOut(ctx context.Context, a Actor, o Order, ids []string, tell func(Outcome) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards tell
	var workers sync.WaitGroup
	next := make(chan string)
	for range min(parallelActs, len(ids)) {
		workers.Go(func() {
			for id := range next {
				out := a.Act(ctx, o, id)
				mu.Lock()
				if tell(out) != nil {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		select {
		case next <- id:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	workers.Wait()
}

// Act has the process carry out an order. It yields each database's outcome when
// that is known; nothing but ctx bounds how long that takes. An error is the last
// pair: then only the outcomes so far say what was done of the order.
func (c *Client) Act(ctx context.Context, o Order) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()                                              // when the caller stops, nothing more is begun
		o.IDs = slices.Compact(slices.Sorted(slices.Values(o.IDs))) // a repeated ID would be refused
		res, err := c.order(ctx, "act", o)
		if err != nil {
			yield(Outcome{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }() // only read from
		lines(ctx, res.Body, yield)
	}
}

// lines yields what is on each line of an answer.
func lines[T any](ctx context.Context, body io.Reader, yield func(T, error) bool) {
	for dec := json.NewDecoder(body); ; {
		var v, zero T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			yield(zero, fmt.Errorf("control socket: %w", err))
			return
		}
		if !yield(v, nil) {
			return
		}
	}
}

// older is the error of a process that does not know what it was asked.
func older(res *http.Response) error {
	return fmt.Errorf("the running process cannot do it: it is of an older version (%s)", res.Status)
}

// order sends an order to a place and returns the answer, which is 200.
func (c *Client) order(ctx context.Context, place string, o any) (*http.Response, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://multidb/v1/"+place, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // so that net/http never sends an order twice
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }() // only read from
	var said Error
	switch err := json.NewDecoder(res.Body).Decode(&said); {
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusMethodNotAllowed:
		return nil, older(res)
	case err != nil:
		return nil, fmt.Errorf("control socket: answered %s", res.Status)
	}
	return nil, fmt.Errorf("control socket: %s", said.Error)
}
