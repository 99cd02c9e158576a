package multidbhttp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/superfly/ltx"
)

const (
	maxActions   = 4                // verbs at once; more are refused
	actTimeout   = 15 * time.Minute // of one verb
	confirmFor   = 10 * time.Minute // a form that was shown can be sent for so long
	outcomesKept = 100
)

// actions is what is done by the Server. Safe for concurrent use.
type actions struct {
	key   [32]byte // of the confirmations
	turns chan struct{}

	mu       sync.Mutex
	used     map[string]time.Time // confirmations that were used, until they are void
	outcomes []outcome            // the newest last
}

func (a *actions) init() {
	_, _ = rand.Read(a.key[:]) // never fails (crypto/rand)
	a.turns = make(chan struct{}, maxActions)
	a.used = map[string]time.Time{}
}

// action is something to be done to a database.
type action struct {
	verb Verb
	id   multidb.ID
	txid multidb.TXID // of VerbRestore; zero: the newest state
}

// result is what became of it.
type result struct {
	txid multidb.TXID // durable after VerbSync
	path string       // of VerbRestore
	kept string       // of VerbAdopt
	took time.Duration
}

var (
	errNotAllowed = errors.New("this server is not allowed to do that: see verbs in its configuration (Options.Verbs in a program)")
	errTooMany    = errors.New("too much is being done already; wait until some of it has ended")
)

// do carries out an action. ctx bounds it.
func (s *Server) do(ctx context.Context, a action, from string) (r result, err error) {
	if !slices.Contains(s.opt.Verbs, a.verb) {
		return r, errNotAllowed
	}
	select {
	case s.actions.turns <- struct{}{}:
		defer func() { <-s.actions.turns }()
	default:
		return r, errTooMany
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	switch a.verb {
	case VerbSync:
		var pos multidb.Pos
		pos, err = s.m.Sync(ctx, a.id)
		r.txid = pos.TXID
	case VerbEvict:
		err = s.m.Evict(ctx, a.id)
	case VerbRestore:
		r.path = filepath.Join(s.opt.RestoreDir, restoreName(a, began))
		err = s.m.Restore(ctx, a.id, multidb.RestoreOptions{OutputPath: r.path, TXID: a.txid})
	case VerbAdopt:
		r.kept, err = s.m.Adopt(ctx, a.id)
	case VerbTakeOver:
		err = s.m.TakeOver(ctx, a.id)
	}
	r.took = time.Since(began)
	s.points.forget(a.id)
	args := []any{"verb", string(a.verb), "id", string(a.id), "from", from, "took", r.took}
	if err != nil {
		s.opt.Logger.Warn("multidbhttp: not done", append(args, "err", s.cleanErr(err))...)
	} else {
		s.opt.Logger.Info("multidbhttp: "+r.text(a), args...)
	}
	s.actions.note(outcome{Key: rand.Text(), Verb: a.verb, ID: string(a.id), At: began, Took: r.took, Text: r.text(a), Err: s.cleanErr(err)})
	return r, err
}

// text says what was done.
func (r result) text(a action) string {
	switch a.verb {
	case VerbSync:
		return "Everything that was committed is durable, up to transaction " + r.txid.String() + "."
	case VerbEvict:
		return "It is closed, and everything is at the replica."
	case VerbRestore:
		return "Restored to " + r.path + "."
	case VerbAdopt:
		return "The replica's newest state is the local file now. The former one is kept as " + r.kept + "."
	case VerbTakeOver:
		return "The local file is the newest state at the replica now."
	}
	return ""
}

func (a *actions) note(o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.outcomes) >= outcomesKept {
		a.outcomes = slices.Delete(a.outcomes, 0, 1)
	}
	a.outcomes = append(a.outcomes, o)
}

// of returns at most n outcomes of a database, the newest first.
func (a *actions) of(id string, n int) []outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []outcome
	for _, o := range slices.Backward(a.outcomes) {
		if o.ID == id && len(found) < n {
			found = append(found, o)
		}
	}
	return found
}

// restoreName is the name of a new file: of the ID only what is harmless in a name, and
// something that no other restore has.
func restoreName(a action, at time.Time) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, string(a.id))
	state := "newest"
	if a.txid != 0 {
		state = a.txid.String()
	}
	return fmt.Sprintf("%.80s-%s-%s-%.8s.db", id, state, at.UTC().Format("20060102T150405Z"), rand.Text())
}

// confirmation proves that a person was shown what would be done: for this action, in this
// session, until it is void. It can be used once.
func (s *Server) confirmation(a action, session string, until time.Time, nonce string) string {
	mac := hmac.New(sha256.New, s.actions.key[:])
	for _, part := range []string{string(a.verb), string(a.id), a.txid.String(), session, nonce, strconv.FormatInt(until.Unix(), 10)} {
		_, _ = fmt.Fprintf(mac, "%d:%s", len(part), part) // never fails (hash.Hash)
	}
	return fmt.Sprintf("%d.%s.%s", until.Unix(), nonce, hex.EncodeToString(mac.Sum(nil)))
}

// confirmed reports whether a confirmation is one of this action and was not used, and uses it.
func (s *Server) confirmed(a action, session, text string) bool {
	now := time.Now()
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return false
	}
	seconds, err := strconv.ParseInt(parts[0], 10, 64)
	until := time.Unix(seconds, 0)
	if err != nil || !now.Before(until) || !hmac.Equal([]byte(text), []byte(s.confirmation(a, session, until, parts[1]))) {
		return false
	}
	s.actions.mu.Lock()
	defer s.actions.mu.Unlock()
	for used, void := range s.actions.used {
		if !now.Before(void) {
			delete(s.actions.used, used)
		}
	}
	if _, again := s.actions.used[text]; again {
		return false
	}
	s.actions.used[text] = until
	return true
}

// actionOf reads verb, id and txid.
func (s *Server) actionOf(v url.Values) (a action, err error) {
	a = action{verb: Verb(v.Get("verb")), id: multidb.ID(v.Get("id"))}
	switch {
	case !slices.Contains(Verbs(), a.verb):
		return a, unknownVerb(string(a.verb))
	case a.id == "":
		return a, errors.New("id is missing: say which database")
	}
	if text := v.Get("txid"); text != "" {
		if a.verb != VerbRestore {
			return a, fmt.Errorf("txid is for %s alone", VerbRestore)
		}
		if a.txid, err = ltx.ParseTXID(text); err != nil || a.txid == 0 {
			return a, fmt.Errorf("txid is %q; want one of the restore points, 16 hexadecimal digits", text)
		}
	}
	return a, nil
}

// typesID reports whether the ID has to be typed for a verb: what follows cannot be undone
// by another click.
func typesID(v Verb) bool { return v == VerbAdopt || v == VerbTakeOver }

// confirm is GET /confirm: what would be done, and the form that does it.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request) {
	a, err := s.actionOf(r.URL.Query())
	if err != nil {
		s.refuse(w, r, http.StatusBadRequest, s.cleanErr(err))
		return
	}
	if !slices.Contains(s.opt.Verbs, a.verb) {
		s.refuse(w, r, http.StatusForbidden, errNotAllowed.Error())
		return
	}
	s.showConfirm(w, r, http.StatusOK, a, "")
}

func (s *Server) showConfirm(w http.ResponseWriter, r *http.Request, status int, a action, why string) {
	v := &confirmView{page: s.page(r), Verb: a.verb, ID: string(a.id), Action: s.opt.Base + "/act",
		TypeID: typesID(a.verb), TXID: txid(a.txid), Back: s.tenantURL(string(a.id))}
	v.Err = why
	if a.verb == VerbRestore {
		v.Into = s.opt.RestoreDir
	}
	st, err := s.m.Status(a.id)
	if err == nil {
		v.Row = s.row(st)
	} else if why == "" && !errors.Is(err, multidb.ErrNotFound) { // what is not known here may be restored
		v.Err = s.cleanErr(err)
	}
	token := s.confirmation(a, sessionOf(r), time.Now().Add(confirmFor), rand.Text())
	v.Fields = []field{{"verb", string(a.verb)}, {"id", string(a.id)}, {"txid", txid(a.txid)}, {"confirm", token}}
	s.show(w, r, status, func(w http.ResponseWriter) error { return renderConfirm(w, r, v) })
}

// act is POST /act: it does what was confirmed, and goes back to the database.
func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, http.StatusBadRequest, "the form cannot be read")
		return
	}
	a, err := s.actionOf(r.PostForm)
	if err != nil {
		s.refuse(w, r, http.StatusBadRequest, s.cleanErr(err))
		return
	}
	if !slices.Contains(s.opt.Verbs, a.verb) {
		s.refuse(w, r, http.StatusForbidden, errNotAllowed.Error())
		return
	}
	if typed := strings.TrimSpace(r.PostForm.Get("typed")); typesID(a.verb) && typed != strings.TrimSpace(string(a.id)) {
		s.showConfirm(w, r, http.StatusBadRequest, a, "What was typed is not the ID of this database. Nothing was done.")
		return
	}
	if !s.confirmed(a, sessionOf(r), r.PostForm.Get("confirm")) {
		s.showConfirm(w, r, http.StatusForbidden, a, "This form was used before, or was open for too long. Nothing was done; confirm again.")
		return
	}
	patient(w)
	if _, err = s.do(r.Context(), a, r.RemoteAddr); errors.Is(err, errTooMany) {
		s.showConfirm(w, r, http.StatusTooManyRequests, a, errTooMany.Error())
		return
	}
	http.Redirect(w, r, s.tenantURL(string(a.id)), http.StatusSeeOther) // which shows the outcome
}

// apiAct is POST /api/v1/{verb}?id=. The body repeats the ID, as JSON: no form of another site
// can send that without being asked for first.
func (s *Server) apiAct(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	v.Set("verb", r.PathValue("verb"))
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, "the body has to be of type application/json")
		return
	}
	var body actJSON
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		writeError(w, http.StatusBadRequest, "the body cannot be read: "+err.Error())
		return
	}
	if v.Has("txid") {
		writeError(w, http.StatusBadRequest, "txid belongs into the body")
		return
	}
	v.Set("txid", body.TXID)
	a, err := s.actionOf(v)
	switch {
	case err != nil:
		writeError(w, http.StatusBadRequest, s.cleanErr(err))
		return
	case body.Confirm != string(a.id):
		writeError(w, http.StatusBadRequest, `"confirm" has to repeat the ID; nothing was done`)
		return
	}
	patient(w)
	done, err := s.do(r.Context(), a, r.RemoteAddr)
	answer := doneJSON{Verb: string(a.verb), ID: string(a.id), Done: err == nil, Took: done.took,
		Error: s.cleanErr(err), Reason: reasonOf(err)}
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
	} else {
		answer.TXID, answer.Path, answer.Kept = txid(done.txid), done.path, done.kept
	}
	writeJSON(w, status, answer)
}

// patient lets a request take as long as a verb may, where the http.Server is less patient.
func patient(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	// Where this is not supported there are no deadlines.
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Now().Add(actTimeout + time.Minute))
}

// statusOf is the HTTP status of an error of the Manager.
func statusOf(err error) int {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	switch {
	case is(errNotAllowed):
		return http.StatusForbidden
	case is(errTooMany):
		return http.StatusTooManyRequests
	case is(multidb.ErrNotOwner):
		return http.StatusMisdirectedRequest
	case is(multidb.ErrNotFound, multidb.ErrNoBackup):
		return http.StatusNotFound
	case is(multidb.ErrFenced, multidb.ErrConflict, multidb.ErrInUse, multidb.ErrNoReplica, multidb.ErrRemoved, multidb.ErrMissing, fs.ErrExist):
		return http.StatusConflict
	case is(multidb.ErrNotStarted, multidb.ErrClosed):
		return http.StatusServiceUnavailable
	case is(context.DeadlineExceeded, context.Canceled):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
