package registry

import (
	"math"

	"github.com/multidb-go/multidb/internal/fsid"
)

// volumes are the file systems on which databases stand, so that one that is
// not mounted is not taken for one that was emptied. An entry has the number of
// its own, in a byte; 0 is none known.
type volumes struct {
	devs []uint64
	// recalled tells of which only the catalog knows: the device's number may be
	// another volume's since.
	recalled []bool
}

// recall is what an entry owes to the catalog: nothing, its volume, or that and it was
// found.
type recall uint8

const (
	recallNone recall = iota
	recallAsked
	recallFound
)

// number is the number of a device; as the catalog has it if recalled.
func (v *volumes) number(dev uint64, recalled bool) uint8 {
	for i, d := range v.devs {
		if d == dev && v.recalled[i] == recalled {
			return uint8(i + 1)
		}
	}
	if len(v.devs) == 255 {
		return 0
	}
	v.devs, v.recalled = append(v.devs, dev), append(v.recalled, recalled)
	return uint8(len(v.devs))
}

// Device is the device of a database's volume, for the catalog; 0 if it is not known,
// or too large to be kept.
func (r *Registry[V]) Device(v *V) uint32 {
	if dev, ok := r.Volume(v); ok && dev <= math.MaxUint32 {
		return uint32(dev)
	}
	return 0
}

// Volume is the device on which a database stands, as far as it is known.
func (r *Registry[V]) Volume(v *V) (dev uint64, ok bool) {
	n := r.entryOf(v).volume
	if n == 0 {
		return 0, false
	}
	return r.volumes.devs[n-1], true
}

// LacksVolume reports whether SetVolume has something to note.
func (r *Registry[V]) LacksVolume(v *V) bool {
	e := r.entryOf(v)
	return e.volume == 0 || e.away
}

// SetVolume notes on which device a database stands.
func (r *Registry[V]) SetVolume(v *V, dev uint64) {
	e := r.entryOf(v)
	e.volume, e.away = r.volumes.number(dev, false), false
}

// SetAway notes that the volume of a database is not there. It reports whether that is
// news.
func (r *Registry[V]) SetAway(v *V) (news bool) {
	e := r.entryOf(v)
	news, e.away = !e.away, true
	return news
}

// RecallVolume takes the volume of a database from the catalog, where it has a number
// that another boot may have given to another volume.
func (r *Registry[V]) RecallVolume(v *V, dev uint64) {
	e := r.entryOf(v)
	if e.volume = r.volumes.number(dev, true); e.volume != 0 {
		e.recall = recallAsked
	}
}

// ConfirmVolume notes that a database that the catalog had is there: file, in a
// directory on dev. If it is the same file, the volume is the old one, whatever its
// number is now.
func (r *Registry[V]) ConfirmVolume(v *V, file fsid.ID, dev uint64) {
	e := r.entryOf(v)
	if e.recall != recallAsked {
		return
	}
	e.recall, e.away = recallFound, false
	if all := &r.volumes; file.Ino == e.File.Ino && all.recalled[e.volume-1] {
		all.devs[e.volume-1], all.recalled[e.volume-1] = dev, false
	} else if all.recalled[e.volume-1] || all.devs[e.volume-1] != dev {
		e.volume = all.number(dev, false)
	}
}

// State says what is to be done for a database that was listed: its volume is back; its
// volume is not known; it is the catalog's, and to be confirmed.
func (r *Registry[V]) State(v *V) (back, unknown, recalled bool) {
	e := r.entryOf(v)
	return e.away, e.away || e.volume == 0, e.recall == recallAsked
}

// Inhabitants returns how many of the databases that are in a directory were known
// before this scan, and the paths of those that it has listed. recalledOnly counts those
// alone of which the catalog knew the volume.
func (r *Registry[V]) Inhabitants(in func(path string) bool, recalledOnly bool, scan uint32) (here []string, known int) {
	for v := range r.byID.All() {
		e := r.entryOf(v)
		if e.File.IsZero() || e.recall == recallNone && recalledOnly || !in(e.Path) {
			continue // it was never seen before
		}
		known++
		if e.seen == scan {
			here = append(here, e.Path)
		}
	}
	return here, known
}
