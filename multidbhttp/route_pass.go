package multidbhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// errMarked is why the answer of another node is not passed on to the client.
type errMarked struct{ reason string }

func (e *errMarked) Error() string {
	return "the node has answered that it is not the owner: " + e.reason
}

// passOn sends a request to another node, and its answer to the client, unless no handler there
// has seen it.
func (j *journey) passOn(owner multidb.Owner) tryResult {
	target, err := url.Parse(owner.URL)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Host == "" {
		j.h.opt.Logger.Error("a node has a URL that requests cannot be passed on to", "node", owner.Node, "id", string(j.id))
		j.h.refuseRoute(j.w, http.StatusBadGateway, fmt.Sprintf("node %q, which serves %q, has a URL that requests cannot be passed on to", owner.Node, string(j.id)))
		return tryResult{answered: true}
	}
	j.h.passedOn.Add(1)
	trailer := make(http.Header, len(j.r.Trailer))
	for name := range j.r.Trailer {
		trailer[name] = nil // the values come when the body has ended
	}
	r := j.r.WithContext(j.r.Context())
	r.Body = j.body.try(trailer)
	if j.r.ContentLength < 0 {
		// A body whose end is not known may go on while the answer is read. Where the server cannot have both
		// at once, it goes on as it can.
		_ = http.NewResponseController(j.w).EnableFullDuplex()
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { j.rewrite(p, target, trailer) },
		Transport:      j.h.transport,
		FlushInterval:  -1,
		ErrorLog:       slog.NewLogLogger(j.h.opt.Logger.Handler(), slog.LevelDebug),
		ModifyResponse: marked,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(j.w, r)
	if failed == nil {
		return tryResult{answered: true}
	}
	return j.notPassed(owner, target, failed)
}

// marked fails for an answer that says that no handler has seen the request.
func marked(r *http.Response) error {
	if reason := r.Header.Get(notOwnerHeader); reason != "" && r.StatusCode == http.StatusMisdirectedRequest {
		return &errMarked{reason}
	}
	return nil
}

// rewrite makes of a client's request what is sent to another node: the same, and what nodes tell each other.
func (j *journey) rewrite(p *httputil.ProxyRequest, target *url.URL, trailer http.Header) {
	p.SetURL(target)                       // its host, and a path; credentials in it are not sent
	p.Out.URL.RawQuery = p.In.URL.RawQuery // the other node reads it as this one does
	p.Out.Host = p.In.Host                 // which may be what names the tenant
	p.Out.Trailer = trailer
	out := p.Out.Header
	forwarded(out, p.In)
	out.Set(hopsHeader, strconv.Itoa(j.hops+1))
	out.Set(waitHeader, strconv.FormatInt(max(0, time.Until(j.deadline).Milliseconds()), 10))
	out[viaHeader] = append(slices.Clone(j.via), j.h.self)
	if out.Del(secretHeader); j.h.opt.Secret != "" {
		out.Set(secretHeader, j.h.opt.Secret)
	}
}

// forwarded writes into out what tells of the client: what proxies before this node have written, which
// the ReverseProxy has taken out, and what this node knows itself.
func forwarded(out http.Header, in *http.Request) {
	if values, ok := in.Header["Forwarded"]; ok {
		out["Forwarded"] = values
	}
	clients := slices.Clone(in.Header["X-Forwarded-For"])
	if host, _, err := net.SplitHostPort(in.RemoteAddr); err == nil { // not of a Unix socket
		clients = append(clients, host)
	}
	if len(clients) > 0 {
		out.Set("X-Forwarded-For", strings.Join(clients, ", "))
	}
	proto := "http"
	if in.TLS != nil {
		proto = "https"
	}
	for name, value := range map[string]string{"X-Forwarded-Host": in.Host, "X-Forwarded-Proto": proto} {
		if values, ok := in.Header[name]; ok {
			out[name] = values
		} else {
			out.Set(name, value)
		}
	}
}

// notPassed says what it means that a request was not answered by another node.
func (j *journey) notPassed(owner multidb.Owner, target *url.URL, err error) tryResult {
	node, id := owner.Node, string(j.id)
	var answer *errMarked
	var op *net.OpError
	var tooLarge *http.MaxBytesError
	var late net.Error
	switch bodyErr := j.body.failed(); {
	case errors.As(err, &answer):
		return tryResult{reason: answer.reason, beyond: true, owner: owner}
	case errors.As(bodyErr, &tooLarge):
		j.h.refuseTooLarge(j.w)
	case bodyErr != nil:
		j.h.refuseRoute(j.w, http.StatusBadRequest, "the body of the request ended too early")
	case errors.Is(err, context.Canceled) && j.r.Context().Err() != nil: // nobody waits for the answer
		j.h.refuseRoute(j.w, http.StatusBadGateway, "the request was given up")
	case errors.As(err, &op) && op.Op == "dial":
		j.h.opt.Logger.Warn("a node cannot be reached", "node", node, "url", withoutUser(target), "id", id, "error", err)
		return tryResult{reason: reasonUnreachable, owner: owner}
	case errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &late) && late.Timeout()):
		j.h.opt.Logger.Warn("a node has not answered in time", "node", node, "url", withoutUser(target), "id", id, "error", err)
		j.h.refuseRoute(j.w, http.StatusGatewayTimeout, fmt.Sprintf("node %q, which serves %q, has not answered in time; it may have done what was asked", node, id))
	default:
		j.h.opt.Logger.Warn("a node has ended a request without an answer", "node", node, "url", withoutUser(target), "id", id, "error", err)
		j.h.refuseRoute(j.w, http.StatusBadGateway, fmt.Sprintf("node %q, which serves %q, has ended the request without an answer; it may have done what was asked", node, id))
	}
	return tryResult{answered: true}
}

// withoutUser is a URL for the log.
func withoutUser(u *url.URL) string {
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return plain.String()
}

// onlyOnce keeps an http.Transport from sending a request again on its own: when a connection ends
// without an answer it does that with requests that have no body and a method that is said to be
// safe, or an Idempotency-Key. A handler may have seen them.
type onlyOnce struct{ http.RoundTripper }

func (o onlyOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		again := *r
		r = &again
		r.Body = io.NopCloser(strings.NewReader("")) // a body, which nobody could send twice
		r.TransferEncoding = []string{"identity"}    // and nothing of it in the request
	}
	return o.RoundTripper.RoundTrip(r)
}
