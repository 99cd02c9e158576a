package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// ledger is what the fleet log says at any time of a simulation: each map and each object of a
// log, with the moment at which the store has taken it in. It is read from the store, so no
// node has a say in it.
type ledger struct {
	mu   sync.Mutex
	maps []mapAt                       // in the order of their numbers
	logs map[uint64]map[uint64]entryAt // by epoch and number

	gone map[uint64]*[format.Shards][]time.Time // when an epoch released a shard, made by check
}

type mapAt struct {
	*format.Map
	at time.Time
}

type entryAt struct {
	format.Entry
	at time.Time
}

// read takes in what has come since the last time. What is deleted later stays in the ledger.
func (l *ledger) read(objects multidb.ObjectStore) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logs == nil {
		l.logs = map[uint64]map[uint64]entryAt{}
	}
	ctx, all := context.Background(), []multidb.ObjectInfo{}
	for info, err := range objects.List(ctx, "", "") {
		if err != nil {
			return err
		}
		all = append(all, info)
	}
	for _, info := range all {
		number, isMap := format.ParseMapName(info.Name)
		epoch, seq, isLog := format.ParseObjectName(info.Name)
		if _, known := l.logs[epoch][seq]; known && isLog || isMap && number <= uint64(len(l.maps)) || !isMap && !isLog {
			continue
		}
		rc, err := objects.Open(ctx, info.Name, 0, 0)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if _, err := io.Copy(&b, rc); err != nil {
			return err
		}
		if isMap {
			m, _, err := format.DecodeMap(b.Bytes(), info.Size, number)
			if err != nil {
				return err
			}
			if number != uint64(len(l.maps))+1 {
				return fmt.Errorf("there is map %d, and none before it after %d (M1)", number, len(l.maps))
			}
			l.maps = append(l.maps, mapAt{m, info.Created})
			continue
		}
		e, _, err := format.Decode(b.Bytes(), info.Size, epoch, seq)
		if err != nil {
			return err
		}
		if l.logs[epoch] == nil {
			l.logs[epoch] = map[uint64]entryAt{}
		}
		l.logs[epoch][seq] = entryAt{e, info.Created}
	}
	return nil
}

// String is all of it, for people.
func (l *ledger) String() string {
	var b strings.Builder
	for _, m := range l.maps {
		fmt.Fprintf(&b, "%s map %d by epoch %d:", clockOf(m.at), m.Number, epochOf(m.Live, m.Author))
		for _, live := range m.Live {
			n := 0
			for _, owner := range m.Owners {
				if owner == live.Epoch {
					n++
				}
			}
			fmt.Fprintf(&b, " %d (%s, %d shards, sealed %d)", live.Epoch, live.Node, n, live.Sealed)
		}
		b.WriteByte('\n')
	}
	for _, epoch := range slices.Sorted(maps.Keys(l.logs)) {
		for _, seq := range slices.Sorted(maps.Keys(l.logs[epoch])) {
			e := l.logs[epoch][seq]
			fmt.Fprintf(&b, "%s object %d of epoch %d:", clockOf(e.at), seq, epoch)
			if e.Seal != nil {
				fmt.Fprintf(&b, " seal by %s for epoch %d\n", e.Seal.Who, e.Seal.Next)
				continue
			}
			fmt.Fprintf(&b, " releases %v,", e.Log.Releases)
			for _, r := range e.Log.Records {
				fmt.Fprintf(&b, " %s %d-%d", r.Prefix, r.Min, r.Max)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// counted are the objects of a log that count (F2): up to the first gap or the seal.
func (l *ledger) counted(epoch uint64) (all []entryAt) {
	log := l.logs[epoch]
	if len(log) == 0 {
		return nil
	}
	for seq := slices.Min(slices.Collect(maps.Keys(log))); ; seq++ {
		e, ok := log[seq]
		if !ok || e.Seal != nil {
			return all
		}
		all = append(all, e)
	}
}

// check returns what is against the rules, of all that was read.
func (l *ledger) check() error {
	var errs []error
	l.gone = map[uint64]*[format.Shards][]time.Time{}
	for epoch := range l.logs {
		var gone [format.Shards][]time.Time
		for _, e := range l.counted(epoch) {
			for _, s := range e.Log.Releases {
				gone[s] = append(gone[s], e.at)
			}
		}
		l.gone[epoch] = &gone
	}
	since := [format.Shards]time.Time{} // when the map gave a shard to its owner
	for i, m := range l.maps {
		before := mapAt{&format.Map{Next: 1}, time.Time{}}
		if i > 0 {
			before = l.maps[i-1]
		}
		if err := l.lawful(before, m, &since); err != nil {
			errs = append(errs, fmt.Errorf("map %d at %s: %w", m.Number, clockOf(m.at), err))
		}
	}
	for epoch := range l.logs {
		errs = append(errs, l.writesWhatItOwns(epoch))
	}
	return errors.Join(errs...)
}

// lawful is the law of who may change the owner of a shard: its owner, who has released it
// since it has it (F6); whoever has sealed the log of its owner, and then takes all of its
// shards (F3, F7); and where there is no owner, whoever claims it for itself.
func (l *ledger) lawful(before, after mapAt, since *[format.Shards]time.Time) error {
	author := epochOf(after.Live, after.Author)
	for s, to := range after.Owners {
		from := before.Owners[s]
		if i := after.Find(to); to != 0 && (i < 0 || after.Live[i].Sealed != 0) {
			return fmt.Errorf("shard %d is of epoch %d, whose log has ended (F7)", s, to)
		}
		if from == to {
			continue
		}
		was := since[s]
		since[s] = after.at
		i := after.Find(from)
		switch {
		case from == 0 && to != author:
			return fmt.Errorf("epoch %d claims shard %d for epoch %d", author, s, to)
		case from == 0:
		case i < 0 || after.Live[i].Sealed != 0:
			seal := uint64(0)
			if i >= 0 {
				seal = after.Live[i].Sealed
			}
			if e, ok := l.logs[from][seal]; !ok || e.Seal == nil || e.at.After(after.at) {
				return fmt.Errorf("epoch %d takes shard %d of epoch %d, whose log has no seal at %d (F3)", author, s, from, seal)
			}
			if to != author {
				return fmt.Errorf("epoch %d takes shard %d of epoch %d for epoch %d", author, s, from, to)
			}
		case from != author:
			return fmt.Errorf("epoch %d takes shard %d of epoch %d, which is alive, for epoch %d (F6, F7)", author, s, from, to)
		case !l.released(from, s, was, after.at):
			return fmt.Errorf("epoch %d gives shard %d away, which it has since %s, without a release since then (F6)", from, s, clockOf(was))
		}
	}
	for _, live := range before.Live {
		if after.Find(live.Epoch) < 0 && (live.Sealed == 0 || before.Owns(live.Epoch)) {
			return fmt.Errorf("epoch %d is finished, which owns shards or is not sealed (F8)", live.Epoch)
		}
	}
	return nil
}

// released reports whether an object that counts releases a shard, between two moments.
func (l *ledger) released(epoch uint64, shard int, from, to time.Time) bool {
	gone := l.gone[epoch]
	return gone != nil && slices.ContainsFunc(gone[shard], func(at time.Time) bool { return !at.Before(from) && !at.After(to) })
}

// writesWhatItOwns: an object counts only if the newest map, when the store took it in, named
// its writer as the owner of all that is in it. So a shard has one owner at any time.
func (l *ledger) writesWhatItOwns(epoch uint64) error {
	for _, e := range l.counted(epoch) {
		for _, r := range e.Log.Records {
			s := format.Shard(r.Prefix)
			owners := l.ownersAt(s, e.at)
			if !slices.Contains(owners, epoch) {
				return fmt.Errorf("object %d of epoch %d, of %s, has a commit of %s, whose shard %d was then of epoch %v",
					e.Log.Seq, epoch, clockOf(e.at), r.Prefix, s, owners)
			}
		}
	}
	return nil
}

// ownersAt is who owned a shard at a moment: more than one if the map changed at that moment.
func (l *ledger) ownersAt(shard int, at time.Time) (owners []uint64) {
	for _, m := range slices.Backward(l.maps) {
		if m.at.After(at) {
			continue
		}
		owners = append(owners, m.Owners[shard])
		if m.at.Before(at) {
			return owners
		}
	}
	return append(owners, 0)
}

// ownedByTheLiving: in the end each shard belongs to the log of a node that runs.
func (l *ledger) ownedByTheLiving(nodes map[string]*multidb.Manager) error {
	newest := l.maps[len(l.maps)-1]
	epochs := map[uint64]string{}
	for name, m := range nodes {
		for _, n := range m.Nodes().Nodes {
			if n.Self {
				epochs[n.Epoch] = name
			}
		}
	}
	for s, epoch := range newest.Owners {
		if epochs[epoch] == "" {
			return fmt.Errorf("shard %d is of epoch %d in map %d, which is of none of the nodes that run: %v", s, epoch, newest.Number, epochs)
		}
	}
	return nil
}

func epochOf(live []format.Live, life format.ID) uint64 {
	for _, l := range live {
		if l.Life == life {
			return l.Epoch
		}
	}
	return 0
}

func clockOf(t time.Time) string { return t.Format("15:04:05.000") }

// missing is what of some rows is not among others.
func missing(want []string, has map[string]bool) (none []string) {
	for _, row := range want {
		if !has[row] {
			none = append(none, row)
		}
	}
	return none
}

// lacks is an error if a state of a tenant lacks what was promised of it before.
func lacks(where string, id multidb.ID, promised []string, has map[string]bool) error {
	if none := missing(promised, has); len(none) > 0 {
		return fmt.Errorf("%s of %s lacks %s, which was promised", where, id, strings.Join(none, ", "))
	}
	return nil
}
