package multidbhttp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/multidb-go/multidb"
)

// The headers that nodes send each other beside those of the client.
const (
	hopsHeader   = "Multidb-Hops"   // how often a request was passed on
	waitHeader   = "Multidb-Wait"   // how many milliseconds it may still wait for its database
	viaHeader    = "Multidb-Via"    // the Routers that have passed it on, each a random number
	secretHeader = "Multidb-Secret" // RouterOptions.Secret
)

const (
	// maxHops is how often a request is passed on: to the owner, and once more if the database has moved
	// meanwhile.
	maxHops = 2
	// askFirst and askLater are how long to wait before an owner is asked for again.
	askFirst = 20 * time.Millisecond
	askLater = 200 * time.Millisecond
	// sameOwnerPause is how long another owner is waited for before the same one is tried again, at most. The
	// first time it is otherOwnerPause if that has answered: it may just not know yet that it is the owner.
	sameOwnerPause  = time.Second
	otherOwnerPause = 200 * time.Millisecond

	flyReplayHeader = "Fly-Replay"
	flySourceHeader = "Fly-Replay-Src"
	flyState        = "multidb-" // and the hops
)

// Router returns a handler that has every request served by the node that its database belongs
// to: on this node by next, and on another one by passing the request on to it over HTTP. Any load
// balancer may stand in front of the nodes; it need know nothing of databases.
//
// tenant returns the database that a request is for. It is called on every node that the request comes to,
// and must not read the body. If it returns an empty ID, next serves the request on whichever node it is, as
// for a health check. An error is answered with 400 and its text.
//
// A request that was passed on reaches next as the client has sent it, but for a header Multidb-Hops, which says
// how often it was passed on, and X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto. Bodies stream both ways
// and are flushed at once. Upgrades such as WebSocket and trailers are passed on, and the other node's
// context ends when the client goes. Put the Router outside of handlers that change the path, such as
// http.StripPrefix, since the other node is sent the path that the Router sees.
//
// A request waits while its database moves or nobody serves it, for RouterOptions.Wait at most, and is then
// answered with 503 and Retry-After. A request that a handler may have seen is never sent twice. It is sent again, if
// its body was kept, only after another node has answered that it is not the owner (see NotOwner), for as long as the
// request may wait, or, once, after no connection could be made. If that fails too, the answer is 502 where the node
// cannot be reached, and 503 where no node serves the database. 504 means that the node did not answer in time and may
// have done what was asked. API.md, beside this package, lists all answers.
//
// Call CloseIdleConnections when the server has ended.
func Router(m Owners, tenant func(*http.Request) (multidb.ID, error), next http.Handler, opts RouterOptions) (*RouteHandler, error) {
	errs := []error{opts.check()}
	if m == nil {
		errs = append(errs, errors.New("multidbhttp: Router needs a Manager, or who else knows the owners"))
	}
	if tenant == nil {
		errs = append(errs, errors.New("multidbhttp: Router needs a function that says which database a request is for"))
	}
	if next == nil {
		errs = append(errs, errors.New("multidbhttp: Router needs the handler that serves the requests of this node's databases"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &RouteHandler{owners: m, tenant: tenant, next: next, opt: opts, transport: onlyOnce{opts.Transport}, self: rand.Text()}, nil
}

// RouteHandler is what Router makes. Safe for concurrent use.
type RouteHandler struct {
	owners    Owners
	tenant    func(*http.Request) (multidb.ID, error)
	next      http.Handler
	opt       RouterOptions
	transport http.RoundTripper
	self      string // in viaHeader

	passedOn, retried, refused atomic.Uint64
	waiting                    atomic.Int64
}

// RouterStats is what a RouteHandler has done since it was made.
type RouterStats struct {
	// PassedOn is how often a request was sent to another node, or sent there by Fly's proxy.
	PassedOn uint64
	// Retried is how many requests were tried more than once.
	Retried uint64
	// Refused is how many requests were answered by the RouteHandler itself with an error.
	Refused uint64
	// Waiting is how many requests wait right now for a database that moves or that nobody serves.
	Waiting int
}

// Stats returns what was done so far.
func (h *RouteHandler) Stats() RouterStats {
	return RouterStats{PassedOn: h.passedOn.Load(), Retried: h.retried.Load(), Refused: h.refused.Load(), Waiting: int(h.waiting.Load())}
}

// CloseIdleConnections closes the connections to other nodes that no request uses. Requests in
// progress go on.
func (h *RouteHandler) CloseIdleConnections() {
	if c, ok := h.opt.Transport.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// ServeHTTP serves a request here, or passes it on.
func (h *RouteHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r, j := h.arrived(r)
	id, err := h.tenant(r)
	switch {
	case err != nil:
		h.refuseRoute(w, http.StatusBadRequest, err.Error())
		return
	case h.opt.MaxBody > 0 && r.ContentLength > h.opt.MaxBody:
		h.refuseTooLarge(w)
		return
	case h.opt.MaxBody > 0 && r.Body != nil && r.Body != http.NoBody:
		r.Body = http.MaxBytesReader(w, r.Body, h.opt.MaxBody)
	}
	if id == "" {
		h.next.ServeHTTP(w, r)
		return
	}
	j.id, j.w, j.r, j.body = id, w, r, newKeptBody(r, r.Body, h.opt.MaxRetryBody)
	defer j.body.end()
	j.run()
}

// journey is one request on its way through this node.
type journey struct {
	h        *RouteHandler
	hops     int  // how often it was passed on before it came here
	edge     bool // this node answers the client all the same, as no node is known to wait for the answer
	via      []string
	deadline time.Time

	id   multidb.ID
	w    http.ResponseWriter
	r    *http.Request
	body *keptBody
}

// arrived takes what another node has said out of a request, and what others pretend. The request
// that it returns may be changed.
func (h *RouteHandler) arrived(r *http.Request) (*http.Request, *journey) {
	r = r.WithContext(r.Context()) // shares the trailers, which are known only when the body was read
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	j := &journey{h: h}
	wait := h.opt.Wait
	byNode := h.opt.Secret == "" || isSecret(one(r.Header, secretHeader), h.opt.Secret)
	if hops, err := strconv.Atoi(one(r.Header, hopsHeader)); err == nil && hops > 0 && byNode {
		j.hops = hops
		if ms, err := strconv.ParseInt(one(r.Header, waitHeader), 10, 64); err == nil && ms >= 0 && ms < wait.Milliseconds() {
			wait = time.Duration(ms) * time.Millisecond
		}
		r.Header.Set(hopsHeader, strconv.Itoa(hops))
	} else {
		r.Header.Del(hopsHeader)
		if slices.Contains(r.Header[viaHeader], h.self) {
			// It went in a circle between nodes that have not the same secret, and do not believe each other's hops.
			j.hops, j.edge = maxHops, true
		}
		if h.opt.DropForwarded {
			for name := range r.Header {
				if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
					delete(r.Header, name)
				}
			}
		}
	}
	j.via = r.Header[viaHeader]
	r.Header.Del(viaHeader)
	r.Header.Del(waitHeader)
	r.Header.Del(secretHeader)
	if j.hops == 0 && h.opt.FlyReplay != nil {
		j.hops = flyHops(r.Header.Get(flySourceHeader))
		j.edge = j.hops > 0
	}
	j.deadline = time.Now().Add(wait)
	return r, j
}

// one is the value of a header that is there once; two were sent by somebody else.
func one(h http.Header, name string) string {
	if values := h[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// flyHops reads from what Fly's proxy adds how often a request was sent again.
func flyHops(source string) int {
	for field := range strings.SplitSeq(source, ";") {
		if state, ok := strings.CutPrefix(strings.TrimSpace(field), "state="+flyState); ok {
			if n, err := strconv.Atoi(state); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// tryResult is what came of one try.
type tryResult struct {
	answered bool   // nothing more is to be done
	reason   string // else why no handler has seen the request
	beyond   bool   // the owner has asked another node, and it is that one which reason is about
	owner    multidb.Owner
}

func (j *journey) run() {
	var last tryResult
	for tries := 0; ; tries++ {
		owner, err := j.await(last, tries)
		if err != nil {
			j.gaveUp(last, err)
			return
		}
		if tries == 1 {
			j.h.retried.Add(1)
		}
		if owner.Self {
			last = j.serve(owner)
		} else {
			last = j.elsewhere(owner)
		}
		if last.answered {
			return
		}
		// A node that was passed a request leaves it to the first one to send it again. That goes on while nodes
		// disagree on who the owner is, as they do for a moment in each move: they learn of it one after the other.
		if j.body.end(); j.fromNode() || !j.body.whole() || (tries > 0 && last.reason == reasonUnreachable) {
			j.refuseResult(last)
			return
		}
	}
}

// fromNode reports whether another node waits for the answer, and will know what to make of a
// marked one.
func (j *journey) fromNode() bool { return j.hops > 0 && !j.edge }

// errNobody is why await gives up.
var errNobody = errors.New("nobody serves it")

// await returns who serves the database as soon as somebody does. After tries that have failed it
// waits until that is somebody else than in the last one, or for a while: the node may have been about to take the
// database, or to start.
func (j *journey) await(last tryResult, tries int) (multidb.Owner, error) {
	ctx := j.r.Context()
	pause, begun := min(sameOwnerPause, time.Until(j.deadline)/2), time.Now()
	if last.reason != reasonUnreachable {
		pause = min(sameOwnerPause, otherOwnerPause<<min(max(tries-1, 0), 8))
	}
	for wait := askFirst; ; wait = min(2*wait, askLater) {
		owner, err := j.h.owners.Owner(ctx, j.id)
		if err != nil {
			return owner, err
		}
		moving := owner.Moving || (owner.Node == "" && !owner.Self)
		again := last.reason != "" && owner == last.owner
		left := time.Until(j.deadline)
		if (moving || last.reason != "") && left <= 0 {
			return owner, errNobody
		}
		if !moving && (!again || time.Since(begun) >= pause) {
			return owner, nil
		}
		if again && !moving {
			left = min(left, pause-time.Since(begun))
		}
		if err := j.h.sleep(ctx, min(wait, left)); err != nil {
			return owner, err
		}
	}
}

func (h *RouteHandler) sleep(ctx context.Context, d time.Duration) error {
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve has this node's handler answer, unless that calls NotOwner.
func (j *journey) serve(owner multidb.Owner) tryResult {
	before := j.w.Header().Clone()
	try := &localTry{ResponseWriter: j.w}
	r := j.r.WithContext(try.with(j.r.Context()))
	r.Header = r.Header.Clone()
	if r.Body = j.body.try(nil); j.r.Body == nil {
		r.Body = nil // as a request that no server has made
	}
	j.h.next.ServeHTTP(try, r)
	if !try.notOwner.Load() {
		return tryResult{answered: true}
	}
	if try.wrote.Load() {
		j.h.opt.Logger.Warn("a handler has begun an answer and then said that another node serves the database", "id", string(j.id))
		panic(http.ErrAbortHandler)
	}
	header := j.w.Header()
	clear(header)
	for name, values := range before {
		header[name] = values
	}
	return tryResult{reason: reasonMoved, owner: owner}
}

// elsewhere has another node serve the request.
func (j *journey) elsewhere(owner multidb.Owner) tryResult {
	if j.hops >= maxHops {
		return tryResult{reason: reasonCircle, owner: owner}
	}
	if j.h.opt.FlyReplay != nil && (j.r.ContentLength <= flyMaxBody || owner.URL == "") {
		if value := j.h.opt.FlyReplay(owner); value != "" {
			j.h.passedOn.Add(1)
			if !strings.Contains(value, "state=") {
				value += ";state=" + flyState + strconv.Itoa(j.hops+1)
			}
			j.w.Header().Set(flyReplayHeader, value)
			j.w.Header().Set("Cache-Control", "no-store")
			http.Error(j.w, fmt.Sprintf("node %q serves %q; Fly's proxy sends the request there", owner.Node, string(j.id)), http.StatusConflict)
			return tryResult{answered: true}
		}
	}
	if owner.URL == "" {
		j.h.refuseRoute(j.w, http.StatusServiceUnavailable, fmt.Sprintf("node %q serves %q, and has no URL by which other nodes could pass requests on to it", owner.Node, string(j.id)))
		return tryResult{answered: true}
	}
	return j.passOn(owner)
}

// gaveUp answers a request whose owner was not found.
func (j *journey) gaveUp(last tryResult, err error) {
	switch {
	case errors.Is(err, errNobody) && last.reason != "":
		j.refuseResult(last)
	case errors.Is(err, errNobody):
		j.h.refuseLater(j.w, fmt.Sprintf("no node serves %q right now: it moves, or its node has just gone; try again", string(j.id)))
	case j.r.Context().Err() != nil: // the client has gone, or a handler around this one has set it a limit
		j.h.refuseRoute(j.w, http.StatusGatewayTimeout, "the request was given up before a node was found that serves it")
	case slices.ContainsFunc([]error{multidb.ErrNotStarted, multidb.ErrClosed}, func(target error) bool { return errors.Is(err, target) }):
		j.h.refuseLater(j.w, "this node is starting or stopping; try again")
	default:
		j.h.opt.Logger.Error("asking which node serves a database has failed", "id", string(j.id), "error", err)
		j.h.refuseRoute(j.w, http.StatusInternalServerError, fmt.Sprintf("it is not known which node serves %q", string(j.id)))
	}
}

// refuseResult answers a request that no handler has seen and that is not tried again here.
func (j *journey) refuseResult(last tryResult) {
	id, node := string(j.id), last.owner.Node
	var text string
	switch last.reason {
	case reasonUnreachable:
		if last.beyond {
			text = fmt.Sprintf("the node to which node %q passes requests for %q on cannot be reached", node, id)
			break
		}
		text = fmt.Sprintf("node %q, which serves %q, cannot be reached", node, id)
	case reasonCircle:
		if !j.fromNode() { // in a move that lasts only for a moment
			j.h.opt.Logger.Warn("a request goes in a circle: each node that it was passed on to says that another one serves its database", "id", id, "owner", node)
		}
		text = fmt.Sprintf("the request for %q was passed on %d times, and each node says that another one serves it; try again", id, maxHops)
	default:
		text = fmt.Sprintf("%q moves between nodes; try again", id)
	}
	switch {
	case j.fromNode():
		j.h.refused.Add(1)
		answerNotOwner(j.w, last.reason, text)
	case !j.body.whole() && last.reason != reasonUnreachable:
		j.h.refuseLater(j.w, text+fmt.Sprintf(" (a body of more than %d bytes is not kept and sent again)", j.h.opt.MaxRetryBody))
	case last.reason == reasonUnreachable:
		j.h.refuseRoute(j.w, http.StatusBadGateway, text)
	default:
		j.h.refuseLater(j.w, text)
	}
}

func (h *RouteHandler) refuseRoute(w http.ResponseWriter, status int, text string) {
	h.refused.Add(1)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

// refuseLater says that the same request may well succeed soon.
func (h *RouteHandler) refuseLater(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	h.refuseRoute(w, http.StatusServiceUnavailable, text)
}

func (h *RouteHandler) refuseTooLarge(w http.ResponseWriter) {
	h.refuseRoute(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", h.opt.MaxBody))
}
