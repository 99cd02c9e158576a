package fleetlog

import (
	"slices"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// Forgotten says which records are void because their prefix was erased since (F9).
type Forgotten map[forgotten]uint64 // the number below which they are

// forgotten is a prefix in the log of an epoch.
type forgotten struct {
	prefix string
	epoch  uint64
}

// NewForgotten collects what logs say. They are all that were read, of all epochs, in any
// order.
func NewForgotten(logs []*format.Log) Forgotten {
	var f Forgotten
	add := func(prefix string, epoch, below uint64) {
		if f == nil {
			f = Forgotten{}
		}
		k := forgotten{prefix, epoch}
		f[k] = max(f[k], below)
	}
	for _, l := range logs {
		for _, g := range l.Forgets {
			add(g.Prefix, l.Epoch, l.Seq)
			for _, m := range g.Below {
				add(g.Prefix, m.Epoch, m.Seq)
			}
		}
	}
	return f
}

// Has reports whether the record of a prefix in an object is void.
func (f Forgotten) Has(epoch, seq uint64, prefix string) bool {
	return seq < f[forgotten{prefix, epoch}]
}

// Remembered are logs without the records that are void, by what they say themselves and others that were read say
// too. What was given is not changed.
func Remembered(logs []*format.Log, others ...*format.Log) []*format.Log {
	f := NewForgotten(slices.Concat(logs, others))
	if len(f) == 0 {
		return logs
	}
	return without(logs, func(l *format.Log, r format.Record) bool { return f.Has(l.Epoch, l.Seq, r.Prefix) })
}

// Unreleased are logs without the records of shards that their owner has given up after these: the prefixes have them
// (F6), and whoever has got the shard may have erased some since.
func Unreleased(logs []*format.Log) []*format.Log {
	type of struct {
		epoch uint64
		shard int
	}
	last := map[of]uint64{}
	for _, l := range logs {
		for _, s := range l.Releases {
			last[of{l.Epoch, s}] = max(last[of{l.Epoch, s}], l.Seq)
		}
	}
	if len(last) == 0 {
		return logs
	}
	return without(logs, func(l *format.Log, r format.Record) bool { return l.Seq < last[of{l.Epoch, format.Shard(r.Prefix)}] })
}

// without are logs without some records. What was given is not changed.
func without(logs []*format.Log, gone func(*format.Log, format.Record) bool) []*format.Log {
	kept := make([]*format.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Records = nil
		for _, r := range l.Records {
			if !gone(l, r) {
				c.Records = append(c.Records, r)
			}
		}
		kept[i] = &c
	}
	return kept
}

// Needed reports whether a map has as live an epoch whose records one of the logs says to
// be void: then none of these logs may be passed over, by packed or by Finish.
func Needed(m *format.Map, logs []*format.Log) bool {
	for _, l := range logs {
		for _, g := range l.Forgets {
			for _, b := range g.Below {
				if b.Epoch != l.Epoch && m.Find(b.Epoch) >= 0 {
					return true
				}
			}
		}
	}
	return false
}
