package registry

import (
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

func TestARootIsWhatItWasUnlessNothingSpeaksForIt(t *testing.T) {
	here, there := fsid.ID{Dev: 1, Ino: 2}, fsid.ID{Dev: 1, Ino: 9}
	elsewhere := fsid.ID{Dev: 2, Ino: 2}
	r := &Root{Path: "/data"}
	if same, may := r.See(here); same || !may {
		t.Errorf("the first time: %v, %v", same, may)
	}
	r.Accept(here)
	if same, _ := r.See(here); !same {
		t.Error("it is not what it was")
	}
	if same, may := r.See(there); same || !may || !r.Stands(there) {
		t.Error("a new directory on its file system is refused in the life of the process")
	}
	if same, may := r.See(elsewhere); same || may || r.Stands(elsewhere) {
		t.Error("another file system is taken for it")
	}
	if at := time.Unix(7, 0); !r.Reject(at) || r.Reject(at.Add(1)) {
		t.Error("that it is away is news once")
	} else if since, away := r.Away(); !away || !since.Equal(at) {
		t.Errorf("away since %v: %v", since, away)
	}
	if same, _ := r.See(here); !same {
		t.Error("it has not come back")
	} else if _, away := r.Away(); away {
		t.Error("it is away though it is back")
	}
}

func TestRootsAreRemembered(t *testing.T) {
	all := Roots{{Path: "/data"}, {Path: "/data/inner"}}
	all[0].Accept(fsid.ID{Dev: 1, Ino: 2})
	b, err := all.Record()
	if err != nil {
		t.Fatal(err)
	}
	again := Roots{{Path: "/data"}, {Path: "/data/inner"}}
	if err := again.Recall(b); err != nil {
		t.Fatal(err)
	}
	if again[0].Stands(fsid.ID{Dev: 1, Ino: 3}) || !again[0].Stands(fsid.ID{Dev: 1, Ino: 2}) || !again[1].Stands(fsid.ID{Dev: 5, Ino: 5}) {
		t.Error("after a start only the very directory is the root, where one is remembered")
	}
	if again.Of("/data/inner/x.db") != again[1] || again.Of("/data/innermost/x.db") != again[0] || again.Of("/elsewhere") != nil {
		t.Error("a path is below another root than it is")
	}
	for _, bad := range []string{"", "{", `{"format":2}`} {
		if err := again.Recall([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

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
	if back, _, _ := r.State(same); !back {
		t.Error("its volume is not away")
	}
}
