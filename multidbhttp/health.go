package multidbhttp

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
)

// healthFor is how long an answer of Manager.Healthy is given again: it looks at every
// database, under the Manager's lock, and anybody may ask.
const healthFor = time.Second

// health is what Manager.Healthy has answered last. Safe for concurrent use.
type health struct {
	mu    sync.Mutex
	at    time.Time
	ok    bool
	worst []multidb.Status
}

// healthy is Manager.Healthy, at most once in a second.
func (s *Server) healthy() (ok bool, worst []multidb.Status) {
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() || time.Since(h.at) >= healthFor {
		h.ok, h.worst = s.m.Healthy(s.opt.MaxLag)
		h.at = time.Now()
	}
	return h.ok, h.worst
}

// healthz says that the process lives.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // whoever asked has gone
}

// errDraining and errOut are why a load balancer should send no requests to a node of a cluster.
var (
	errDraining = errors.New("this node drains: it gives its databases to the other nodes")
	errOut      = errors.New("this node takes no part in its cluster right now")
)

// apart is why a node takes no requests that another one could answer; nil: it does, or it is none.
func (s *Server) apart() error {
	st := s.nodes()
	switch {
	case st.Draining:
		return errDraining
	case !st.Joined && (inCluster(&st) || st.Err != nil):
		return errors.Join(errOut, st.Err)
	}
	return nil
}

// readyz says whether the Manager is started and all is well, and to those who may read also
// what is not. With ?started it is only whether it is started and, as a node of a cluster, takes part: what
// ails all nodes at once, as an outage of the bucket does, must not leave a load balancer without any.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	var answer readyJSON
	if err := s.m.Serving(); err != nil {
		answer.Reasons = append(answer.Reasons, problemJSON{Error: err.Error()})
	} else if err := s.apart(); err != nil {
		answer.Reasons = append(answer.Reasons, problemJSON{Error: s.cleanErr(err)})
	} else if !r.URL.Query().Has("started") {
		_, worst := s.healthy()
		for _, st := range worst {
			answer.Reasons = append(answer.Reasons, s.problemOf(st))
		}
	}
	answer.Ready = len(answer.Reasons) == 0
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	if !s.knowsHost(r.Host) || !s.allowed(r) {
		answer.Reasons = nil
	}
	writeJSON(w, status, answer)
}

// problemOf says why a database is not well.
func (s *Server) problemOf(st multidb.Status) problemJSON {
	p := problemJSON{ID: string(st.ID), Lag: st.Lag}
	if st.Err != nil {
		p.Error, p.Reason, p.Since = s.cleanErr(st.Err), multidb.ReasonOf(st.Err).String(), st.ErrSince
	} else {
		p.Error = "the replica lacks what was committed for longer than " + s.opt.MaxLag.String()
	}
	return p
}
