package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// score is how much a node is wanted for something, by rendezvous hashing (Thaler and
// Ravishankar, 1998): whoever has the highest score gets it, so that a node which comes or
// goes moves only what it gets or had.
func score(what string, n uint64, node string) uint64 {
	b := make([]byte, 0, 96)
	b = append(append(b, what...), 0)
	b = binary.BigEndian.AppendUint64(b, n)
	sum := sha256.Sum256(append(b, node...))
	return binary.BigEndian.Uint64(sum[:])
}

// ranked are nodes by how much they are wanted for something, the first one first.
func ranked(what string, n uint64, nodes []string) []string {
	type scored struct {
		node  string
		score uint64
	}
	all := make([]scored, len(nodes))
	for i, node := range nodes {
		all[i] = scored{node, score(what, n, node)}
	}
	slices.SortFunc(all, func(a, b scored) int {
		switch {
		case a.score != b.score && a.score > b.score:
			return -1
		case a.score != b.score:
			return 1
		case a.node < b.node:
			return -1
		}
		return 1
	})
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.node
	}
	return names
}

// placement is which node is to have each shard, of those that take any.
type placement struct {
	nodes []string // ascending
	of    []string // by shard; "" if there are no nodes
}

// place computes the placement on nodes; was is that of before, which is returned where the
// nodes are the same.
func place(was *placement, shards int, nodes []string) *placement {
	nodes = slices.Sorted(slices.Values(nodes))
	if was != nil && slices.Equal(was.nodes, nodes) {
		return was
	}
	p := &placement{nodes: nodes, of: make([]string, shards)}
	for s := range p.of {
		best, high := "", uint64(0)
		for _, node := range nodes {
			if n := score("shard", uint64(s), node); best == "" || n > high {
				best, high = node, n
			}
		}
		p.of[s] = best
	}
	return p
}
