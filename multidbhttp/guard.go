package multidbhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// headers are those of every answer. What the page needs comes from the Server itself, and
// nothing of it is inline.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cache-Control":                "no-store",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cross-Origin-Opener-Policy":   "same-origin",
}

// guarded puts in front of next what keeps strangers out: wrong names of this host, requests
// of other sites' pages, and, unless the path is open, whoever does not know the token.
func (s *Server) guarded(next http.Handler) http.Handler {
	fromOthers := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" { // for load balancers, whatever they call this host
			next.ServeHTTP(w, r)
			return
		}
		if !s.knowsHost(r.Host) {
			s.refuse(w, r, http.StatusForbidden, fmt.Sprintf("this server is not known as %q; call it by its address, or add the name to hosts in its configuration (Options.Hosts in a program)", hostname(r.Host)))
			return
		}
		if err := fromOthers.Check(r); err != nil {
			s.refuse(w, r, http.StatusForbidden, "a page of another site has sent this request; open the page here and try again")
			return
		}
		switch {
		case r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/static/"): // what asks for the token
		case s.allowed(r):
		case s.opt.Token == "":
			s.refuse(w, r, http.StatusForbidden, "without a token only connections from this machine are served; set token-file in its configuration (Options.Token in a program)")
			return
		default:
			s.askForToken(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowed reports whether whoever has sent a request may read, and do what Options.Verbs has.
func (s *Server) allowed(r *http.Request) bool {
	if s.opt.Authenticated {
		return true
	}
	if s.opt.Token == "" {
		return isLocal(r)
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return s.isToken(token)
	}
	return s.sessions.has(sessionOf(r))
}

func (s *Server) isToken(text string) bool { return isSecret(text, s.opt.Token) }

// isSecret compares in a time that does not tell how much of it was right. There is none that is empty.
func isSecret(text, secret string) bool {
	got, want := sha256.Sum256([]byte(text)), sha256.Sum256([]byte(secret))
	return secret != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isLocal reports whether a connection came in by an address that only this machine can
// reach. Where it is not known by which, it did not.
func isLocal(r *http.Request) bool {
	switch a := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// knowsHost reports whether a request may have been sent to a name. An address cannot be
// made to mean another machine, as any name of somebody else's can (DNS rebinding).
func (s *Server) knowsHost(host string) bool {
	name := hostname(host)
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name == "localhost" || slices.Contains(s.opt.Hosts, name)
}

// hostname is a Host header without the port, in small letters.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

// refuse answers that a request was not carried out, and why: in the form that was asked for.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	if isAPI(r) {
		writeError(w, status, why)
		return
	}
	p := s.page(r)
	p.Err = why
	s.show(w, r, status, func(w http.ResponseWriter) error { return renderMessage(w, r, &p) })
}

func isAPI(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/metrics"
}

var userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@]*@`)
var signed = regexp.MustCompile(`(?i)([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|[a-z_-]*(?:token|secret|password|key))=)[^&\s"']*`)

// clean hides what may be a secret in the text of an error. The stores hide their own;
// this is for the discoverers, hooks and replicas of the caller.
func (s *Server) clean(text string) string {
	if s.opt.Token != "" {
		text = strings.ReplaceAll(text, s.opt.Token, "***")
	}
	return signed.ReplaceAllString(userinfo.ReplaceAllString(text, "${1}***@"), "${1}***")
}

func (s *Server) cleanErr(err error) string {
	if err == nil {
		return ""
	}
	return s.clean(err.Error())
}
