package config

import (
	"math"
	"path"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
	"github.com/multidb-go/multidb"
)

// rule is one policy of the file, for the databases whose IDs match.
type rule struct {
	match  string
	policy multidb.Policy

	at      *token.Token // where it begins
	matchAt value
}

// policyKeys has one for every field of Policy.
func policyKeys(p *multidb.Policy) []key {
	return []key{
		{name: "sync-interval", read: duration(1, setTo(&p.SyncInterval))},
		{name: "cold-sync-interval", read: duration(1, setTo(&p.ColdSyncInterval))},
		{name: "hot-duration", read: duration(1, setTo(&p.HotDuration))},
		{name: "snapshot-interval", read: duration(1, setTo(&p.SnapshotInterval))},
		{name: "retention", read: duration(1, setTo(&p.Retention))},
		{name: "l0-retention", read: duration(1, setTo(&p.L0Retention))},
		{name: "hot", read: oneOf([]string{"auto", "always", "never"}, func(hot string) {
			p.Hot = map[string]multidb.HotPolicy{
				"auto": multidb.HotAuto, "always": multidb.HotAlways, "never": multidb.HotNever}[hot]
		})},
		{name: "evict-priority", read: integer(math.MinInt32, math.MaxInt32, func(n int64) { p.EvictPriority = int(n) })},
	}
}

func setTo[T any](p *T) func(T) { return func(v T) { *p = v } }

func (s *settings) readPolicies(d *decoder, v value) {
	list, ok := v.node.(*ast.SequenceNode)
	if !ok {
		d.failValue(v, `want a list, not %s; write - match: "paying/*" below it`, kindOf(v.node))
		return
	}
	if len(list.Values) == 0 {
		d.failValue(v, `it has no policy; write for example - match: "paying/*"`)
	}
	for _, n := range list.Values {
		r := rule{at: n.GetToken()}
		match := key{name: "match", required: true, read: func(d *decoder, v value) {
			r.matchAt = v
			requiredText(setTo(&r.match))(d, v)
		}}
		item := value{node: n, key: n.GetToken(), path: v.path}
		if m, ok := n.(*ast.MappingValueNode); ok {
			r.at = m.Key.GetToken()
		} else if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
			r.at = m.Values[0].Key.GetToken()
		}
		item.key = r.at
		d.mapping(item, append([]key{match}, policyKeys(&r.policy)...), nil)
		s.rules = append(s.rules, r)
	}
}

// policies puts the rules into an option, after everything that stands beside them was read.
func (s *settings) policies(d *decoder, options []multidb.Option) []multidb.Option {
	if len(s.rules) == 0 {
		return options
	}
	parts := s.idParts()
	for i, r := range s.rules {
		n := strings.Count(r.match, "/") + 1
		switch _, err := path.Match(r.match, ""); {
		case err != nil:
			d.failValue(r.matchAt, `%s is not a pattern: there is a [ without its ], or a \ at the end`, quote(r.match))
		case len(parts) > 0 && !parts[n]:
			d.failValue(r.matchAt, "%s matches no database: it has %d parts, and an ID has as many as its pattern has captures; * stands for what is in one part", quote(r.match), n)
		}
		for _, before := range s.rules[:i] {
			if before.match == r.match {
				d.failValue(r.matchAt, "%s a second time; the first, in line %d, counts", quote(r.match), before.at.Position.Line)
				break
			}
		}
		if cold := r.policy.ColdSyncInterval; cold > 0 {
			with := append(options[:len(options):len(options)], multidb.WithColdSyncInterval(cold))
			if sync := r.policy.SyncInterval; sync > 0 {
				with = append(with, multidb.WithSyncInterval(sync))
			}
			if _, err := multidb.New(with...); err != nil {
				for line := range strings.Lines(err.Error()) {
					d.fail(r.at, "multi-db.policies", "%s", d.library(strings.TrimSuffix(line, "\n")))
				}
			}
		}
	}
	return append(options, multidb.WithPolicy(policyOf(s.rules)))
}

// idParts are the numbers of parts that IDs may have; none: that is not known.
func (s *settings) idParts() map[int]bool {
	parts := map[int]bool{}
	for _, text := range s.patterns {
		p, err := multidb.ParsePattern(text)
		if err != nil || len(p.Vars()) == 0 { // its IDs are paths
			return nil
		}
		parts[len(p.Vars())] = true
	}
	return parts
}

// policyOf is the function for WithPolicy: the first rule that matches counts.
func policyOf(rules []rule) func(multidb.Database) multidb.Policy {
	return func(db multidb.Database) multidb.Policy {
		for i := range rules {
			if ok, err := path.Match(rules[i].match, string(db.ID)); ok && err == nil { // which policies has checked
				return rules[i].policy
			}
		}
		return multidb.Policy{}
	}
}
