package multidbhttp

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	sessionCookie = "multidb_session"
	sessionLength = 12 * time.Hour
	maxSessions   = 100 // of people who are on call; the oldest goes
)

// sessions are those who have typed the token, by what their cookie has. A restart ends
// them. Safe for concurrent use.
type sessions struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// begin returns the cookie's value for a new session.
func (s *sessions) begin(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	oldest := ""
	for id, until := range s.until {
		if !now.Before(until) {
			delete(s.until, id)
		} else if oldest == "" || until.Before(s.until[oldest]) {
			oldest = id
		}
	}
	if len(s.until) >= maxSessions {
		delete(s.until, oldest)
	}
	id := rand.Text()
	s.until[id] = now.Add(sessionLength)
	return id
}

func (s *sessions) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[id]
	return ok && time.Now().Before(until)
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, id)
}

// sessionOf is what the cookie of a request has; empty: there is none.
func sessionOf(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// askForToken answers a request of somebody who is not known: a person gets the form.
func (s *Server) askForToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="multidb"`)
	if isAPI(r) {
		said := `a token is needed: send "Authorization: Bearer TOKEN"`
		if r.Header.Get("Authorization") != "" {
			said = `the token is wrong; the header is "Authorization: Bearer TOKEN"`
		}
		writeError(w, http.StatusUnauthorized, said)
		return
	}
	to := s.opt.Base + "/"
	if r.Method == http.MethodGet {
		to = s.opt.Base + r.URL.RequestURI()
	}
	s.loginForm(w, r, http.StatusUnauthorized, to, "")
}

func (s *Server) loginForm(w http.ResponseWriter, r *http.Request, status int, to, why string) {
	v := &loginView{page: s.page(r), Action: s.opt.Base + "/login", To: to}
	v.Err = why
	s.show(w, r, status, func(w http.ResponseWriter) error { return renderLogin(w, r, v) })
}

// login is GET and POST /login.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if s.opt.Token == "" {
		http.Redirect(w, r, s.opt.Base+"/", http.StatusSeeOther)
		return
	}
	to := s.ownURL(r.FormValue("to"))
	if r.Method != http.MethodPost {
		s.loginForm(w, r, http.StatusOK, to, "")
		return
	}
	if !s.isToken(strings.TrimSpace(r.PostFormValue("token"))) {
		s.loginForm(w, r, http.StatusUnauthorized, to, "That is not the token.")
		return
	}
	s.setSession(w, r, s.sessions.begin(time.Now()), int(sessionLength/time.Second))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// logout is POST /logout.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	s.sessions.end(sessionOf(r))
	s.setSession(w, r, "", -1)
	http.Redirect(w, r, s.opt.Base+"/login", http.StatusSeeOther)
}

// setSession sets the cookie. It goes back over TLS alone where the browser came by TLS,
// which may end at a proxy.
func (s *Server) setSession(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: value, Path: s.opt.Base + "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	})
}

// ownURL is a URL that a form brought back, if it is a path of this Server and not one that
// leads elsewhere, as //example.com and /\example.com do.
func (s *Server) ownURL(to string) string {
	base := s.opt.Base + "/"
	rest, ok := strings.CutPrefix(to, base)
	if !ok || strings.HasPrefix(rest, "/") || strings.ContainsAny(to, "\\\r\n\t") {
		return base
	}
	return to
}
