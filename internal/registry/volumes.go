package registry

import (
	"math"

	"github.com/multidb-go/multidb/internal/fsid"
)

// volumes has the file systems on which databases are, so that a volume which is not
// mounted is not mistaken for one that was emptied. An entry has the number of its volume
// in one byte; 0 means that it is not known.
type volumes struct {
	devs []uint64 // the volume with number n has the device devs[n-1]
	// recalled: the device is known only from the catalog. Since it was written, another
	// volume may have got its number.
	recalled []bool
}

// recall says whether an entry's volume comes from the catalog.
type recall uint8

const (
	recallNone  recall = iota // it does not
	recallAsked               // it does, and the file was not found in this process yet
	recallFound               // it did, and the file was found
)

// number returns the number of a device. recalled: the device comes from the catalog.
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

// Device returns the device of a database's volume, for the catalog. It returns 0 if it is
// not known, or too large for the catalog.
func (r *Registry[V]) Device(v *V) uint32 {
	if dev, ok := r.Volume(v); ok && dev <= math.MaxUint32 {
		return uint32(dev)
	}
	return 0
}

// Volume returns the device on which a database is. ok is false if it is not known.
func (r *Registry[V]) Volume(v *V) (dev uint64, ok bool) {
	n := r.entryOf(v).volume
	if n == 0 {
		return 0, false
	}
	return r.volumes.devs[n-1], true
}

// LacksVolume reports whether SetVolume would change something.
func (r *Registry[V]) LacksVolume(v *V) bool {
	e := r.entryOf(v)
	return e.volume == 0 || e.away
}

// SetVolume records on which device a database is, and that its volume is mounted.
func (r *Registry[V]) SetVolume(v *V, dev uint64) {
	e := r.entryOf(v)
	e.volume, e.away = r.volumes.number(dev, false), false
}

// SetAway records that the volume of a database is not mounted. It reports whether that was
// not known before.
func (r *Registry[V]) SetAway(v *V) (news bool) {
	e := r.entryOf(v)
	news, e.away = !e.away, true
	return news
}

// RecallVolume sets the device of a database's volume from the catalog. Since a reboot the
// device number may be another volume's; ConfirmVolume finds out.
func (r *Registry[V]) RecallVolume(v *V, dev uint64) {
	e := r.entryOf(v)
	if e.volume = r.volumes.number(dev, true); e.volume != 0 {
		e.recall = recallAsked
	}
}

// ConfirmVolume records that a database from the catalog was found: file, in a directory on
// dev. If the file has the same inode as before, the volume is the old one, whatever its
// device number is now.
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

// VolumeState says what to do for a database that was listed: its volume is mounted again (back),
// its volume has to be set (unknown), or it has to be confirmed (recalled).
func (r *Registry[V]) VolumeState(v *V) (back, unknown, recalled bool) {
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
