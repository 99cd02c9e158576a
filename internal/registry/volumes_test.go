package registry

import "testing"

func TestAVolumeOfTheCatalogIsOldOnlyIfTheFileIs(t *testing.T) {
	r := fleet()
	same, moved, new := add(r, "same", "/1", "1", file(1), FromCatalog), add(r, "moved", "/2", "2", file(2), FromCatalog), add(r, "new", "/3", "3", file(3), 0)
	r.RecallVolume(same, 7)
	r.RecallVolume(moved, 8)
	unseen := add(r, "unseen", "/4", "4", file(4), FromCatalog)
	r.RecallVolume(unseen, 8)
	if !r.LacksVolume(new) || r.Device(new) != 0 {
		t.Error("one that was never looked at has a volume")
	}
	r.SetVolume(new, 7) // a number of today, which says nothing of the catalog's
	r.ConfirmVolume(same, file(1), 9)
	r.ConfirmVolume(moved, file(22), 9)
	for v, want := range map[*tenant]uint32{same: 9, moved: 9, new: 7, unseen: 8} {
		if got := r.Device(v); got != want {
			t.Errorf("%s is on %d, want %d", v.ID, got, want)
		}
	}
	if !r.SetAway(same) || r.SetAway(same) {
		t.Error("that a volume is away is news once")
	}
	if back, _, _ := r.VolumeState(same); !back {
		t.Error("its volume is not away")
	}
}
