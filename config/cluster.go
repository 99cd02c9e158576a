package config

import (
	"cmp"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/member"
)

// clusterKeys has one for every field of ClusterConfig.
func clusterKeys(c *multidb.ClusterConfig) []key {
	return []key{
		{name: "node", read: readNodeName(c)},
		{name: "url", read: readNodeURL(c)},
		// The other kinds are packages that a program imports, and this one does not.
		{name: "membership", read: oneOf([]string{"bucket"}, func(string) { c.Membership = nil })},
		{name: "heartbeat", read: duration(1, func(t time.Duration) { c.Heartbeat = t })},
		{name: "move-timeout", read: duration(1, func(t time.Duration) { c.MoveTimeout = t })},
		{name: "strict-ownership", sets: "StrictOwnership", read: duration(0, func(t time.Duration) { c.StrictOwnership = t })},
		{name: "max-moves", read: integer(1, 1024, func(n int64) { c.MaxMoves = int(n) })},
	}
}

// readNodeName refuses what WithCluster would, but at its own place in the file.
func readNodeName(c *multidb.ClusterConfig) func(*decoder, value) {
	return func(d *decoder, v value) {
		requiredText(func(name string) {
			if err := member.CheckName(name); err != nil {
				_, written, _ := d.text(v, "text")
				d.failValue(v, "%s is no name of a node; want 1 to 63 letters, digits, dots, hyphens and underscores, the first a letter or a digit", written)
				return
			}
			c.Node = name
		})(d, v)
	}
}

// readNodeURL is as readNodeName.
func readNodeURL(c *multidb.ClusterConfig) func(*decoder, value) {
	return func(d *decoder, v value) {
		requiredText(func(s string) {
			if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				_, written, _ := d.text(v, "text")
				d.failValue(v, `%s is no URL of a node; want one such as "http://10.0.0.7:8080"`, written)
				return
			}
			c.URL = s
		})(d, v)
	}
}

// readCluster asks for the host's name only where the file names no node.
func (s *settings) readCluster(d *decoder, v value) {
	var c multidb.ClusterConfig
	before := len(d.errs)
	d.mapping(v, clusterKeys(&c), nil)
	if len(d.errs) > before {
		return
	}
	const heartbeat = 3 * time.Second // the library's default; it would name fields, not keys
	if every := cmp.Or(c.Heartbeat, heartbeat); c.StrictOwnership > 0 && c.StrictOwnership <= every {
		d.fail(d.places["StrictOwnership"], d.names["StrictOwnership"], "%v is no more than the heartbeat of %v, after which the node looks again", c.StrictOwnership, every)
		return
	}
	if c.Node == "" {
		name, err := nodeOf(os.Hostname())
		if err != nil {
			d.fail(v.key, join(v.path, "node"), "%v", err)
			return
		}
		c.Node = name
	}
	s.cluster = &c
	s.add(multidb.WithCluster(c))
}

// nodeOf makes the name of a node of a host's: up to the first dot, as a machine's domain is no
// part of what tells the nodes apart.
func nodeOf(host string, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("it is missing, and the host's name, which is the default, is not known: %w", err)
	}
	name, _, _ := strings.Cut(host, ".")
	if err := member.CheckName(name); err != nil {
		return "", fmt.Errorf("it is missing, and the host's name, which is the default, is no name of a node: %w", err)
	}
	return name, nil
}
