package opener

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/multidb-go/multidb/internal/conduct"
	"github.com/multidb-go/multidb/internal/fleet"
)

// traces notes where each lease that is out was taken. A nil one notes nothing. Safe for
// concurrent use.
type traces struct {
	mu sync.Mutex
	of map[*trace]struct{}
}

// trace is where one lease was taken. It never changes.
type trace struct {
	entry *fleet.Entry
	calls []uintptr
}

// maxCalls is enough to come out of this module: Acquire is four calls deep.
const maxCalls = 12

// take notes who leases a database.
func (t *traces) take(e *fleet.Entry) *trace {
	if t == nil {
		return nil
	}
	var calls [maxCalls]uintptr
	n := runtime.Callers(2, calls[:])
	of := &trace{e, slices.Clone(calls[:n])}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[of] = struct{}{}
	return of
}

// drop forgets a lease that was given back.
func (t *traces) drop(of *trace) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, of)
}

// places is where the leases of each database were taken, and how many at each place.
func (t *traces) places() map[*fleet.Entry]map[string]int {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	all := slices.Collect(maps.Keys(t.of))
	t.mu.Unlock()
	out := map[*fleet.Entry]map[string]int{}
	for _, of := range all {
		if out[of.entry] == nil {
			out[of.entry] = map[string]int{}
		}
		out[of.entry][of.place()]++
	}
	return out
}

// module is what the names of this module's functions begin with.
const module = "github.com/multidb-go/multidb"

// place is the first call that is not of this module's library.
func (t *trace) place() string {
	frames := runtime.CallersFrames(t.calls)
	for {
		f, more := frames.Next()
		inside := strings.HasPrefix(f.Function, module+".") || strings.HasPrefix(f.Function, module+"/internal/")
		if !inside || !more {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
}

// How much is said of what is not released.
const (
	maxUnreleased = 10 // databases
	maxPlaces     = 3  // of each
)

// unreleased is the error of what is still leased; nil: nothing is.
func (o *Opener) unreleased() error {
	type leased struct {
		e *fleet.Entry
		n int
	}
	var all []leased
	handles := 0
	o.pool.Leased(func(e *fleet.Entry, n int) {
		all = append(all, leased{e, n})
		handles += n
	})
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b leased) int { return cmp.Compare(a.e.ID(), b.e.ID()) })
	places := o.traces.places()
	var b strings.Builder
	for i, l := range all {
		if i == maxUnreleased {
			fmt.Fprintf(&b, ", and of %d databases more", len(all)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", l.e.ID())
		if l.n > 1 {
			fmt.Fprintf(&b, " (%d)", l.n)
		}
		b.WriteString(takenAt(places[l.e]))
	}
	hint := "; WithLeaseTraces says where they were taken"
	if o.traces != nil {
		hint = ""
	}
	return fmt.Errorf("%w: not released: handles of %s; %d in all%s", conduct.ErrInUse, &b, handles, hint)
}

// takenAt says where the leases of a database were taken.
func takenAt(places map[string]int) string {
	if len(places) == 0 {
		return ""
	}
	at := slices.SortedFunc(maps.Keys(places), func(a, b string) int {
		return cmp.Or(cmp.Compare(places[b], places[a]), strings.Compare(a, b))
	})
	more := ""
	if n := len(at) - maxPlaces; n > 0 {
		at, more = at[:maxPlaces], fmt.Sprintf(" and %d more places", n)
	}
	return ", taken at " + strings.Join(at, " and ") + more
}
