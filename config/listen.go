package config

import (
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Listen is where `multidb replicate` serves its page, its metrics and its API, and what it
// lets others do. A program of your own gives it to package multidbhttp, if it wants to. It
// is a plain value.
type Listen struct {
	Address    string        // host and port
	TokenFile  string        // has the token; empty: none
	Verbs      []string      // those of multidbhttp
	RestoreDir string        // an absolute path; empty: none
	Hosts      []string      // other names of this machine
	Title      string        // of the fleet; empty: the default
	MaxLag     time.Duration // zero: the default
}

// verbs are those of package multidbhttp.
var verbs = []string{"sync", "evict", "restore", "adopt", "takeover"}

// listenKeys has one for every field of Listen.
func listenKeys(l *Listen) []key {
	return []key{
		{name: "address", required: true, read: func(d *decoder, v value) {
			requiredText(func(text string) {
				if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
					d.failValue(v, `%s is not a host and a port; write "127.0.0.1:9460" for this machine alone`, quote(text))
				}
				l.Address = text
			})(d, v)
		}},
		{name: "token-file", read: requiredText(setTo(&l.TokenFile))},
		{name: "verbs", read: texts("- sync", oneOf(verbs, func(verb string) { l.Verbs = append(l.Verbs, verb) }))},
		{name: "restore-dir", read: func(d *decoder, v value) {
			requiredText(func(text string) {
				if !filepath.IsAbs(text) {
					d.failValue(v, "%s is not an absolute path", quote(text))
				}
				l.RestoreDir = text
			})(d, v)
		}},
		{name: "hosts", read: texts("- ops.example.com", requiredText(func(host string) { l.Hosts = append(l.Hosts, host) }))},
		{name: "title", read: requiredText(setTo(&l.Title))},
		{name: "max-lag", read: duration(1, setTo(&l.MaxLag))},
	}
}

func (s *settings) readListen(d *decoder, v value) {
	l := &Listen{}
	before := len(d.errs)
	d.mapping(v, listenKeys(l), nil)
	if len(d.errs) == before && slices.Contains(l.Verbs, "restore") && l.RestoreDir == "" {
		d.failValue(v, "restore is among the verbs, but there is no restore-dir; name the directory that files are restored into")
	}
	s.listen = l
}

// texts reads a list, each item of it by read.
func texts(example string, read func(*decoder, value)) func(*decoder, value) {
	return func(d *decoder, v value) {
		list, ok := v.node.(*ast.SequenceNode)
		if !ok {
			d.failValue(v, "want a list, not %s; write for example %s below it", kindOf(v.node), example)
			return
		}
		for _, n := range list.Values {
			read(d, value{node: n, path: v.path})
		}
	}
}

// Listen returns where `multidb replicate` serves its page; nil if it does not.
func (c *Config) Listen() *Listen {
	if c.listen == nil {
		return nil
	}
	l := *c.listen
	l.Verbs, l.Hosts = slices.Clone(l.Verbs), slices.Clone(l.Hosts)
	return &l
}
