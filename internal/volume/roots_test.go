package volume

import (
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

func TestARootIsWhatItWasUnlessNothingSpeaksForIt(t *testing.T) {
	here, there := fsid.ID{Dev: 1, Ino: 2}, fsid.ID{Dev: 1, Ino: 9}
	elsewhere := fsid.ID{Dev: 2, Ino: 2}
	r := &root{path: "/data"}
	if same, may := r.see(here); same || !may {
		t.Errorf("the first time: %v, %v", same, may)
	}
	r.accept(here)
	if same, _ := r.see(here); !same {
		t.Error("it is not what it was")
	}
	if same, may := r.see(there); same || !may || !r.stands(there) {
		t.Error("a new directory on its file system is refused in the life of the process")
	}
	if same, may := r.see(elsewhere); same || may || r.stands(elsewhere) {
		t.Error("another file system is taken for it")
	}
	if at := time.Unix(7, 0); !r.reject(at) || r.reject(at.Add(1)) {
		t.Error("that it is away is news once")
	} else if !r.away || !r.since.Equal(at) {
		t.Errorf("away since %v: %v", r.since, r.away)
	}
	if same, _ := r.see(here); !same {
		t.Error("it has not come back")
	} else if r.away {
		t.Error("it is away though it is back")
	}
}

func TestRootsAreRemembered(t *testing.T) {
	all := roots{{path: "/data"}, {path: "/data/inner"}}
	all[0].accept(fsid.ID{Dev: 1, Ino: 2})
	b, err := all.record()
	if err != nil {
		t.Fatal(err)
	}
	again := roots{{path: "/data"}, {path: "/data/inner"}}
	if err := again.recall(b); err != nil {
		t.Fatal(err)
	}
	if again[0].stands(fsid.ID{Dev: 1, Ino: 3}) || !again[0].stands(fsid.ID{Dev: 1, Ino: 2}) || !again[1].stands(fsid.ID{Dev: 5, Ino: 5}) {
		t.Error("after a start only the very directory is the root, where one is remembered")
	}
	if again.of("/data/inner/x.db") != again[1] || again.of("/data/innermost/x.db") != again[0] || again.of("/elsewhere") != nil {
		t.Error("a path is below another root than it is")
	}
	for _, bad := range []string{"", "{", `{"format":2}`} {
		if err := again.recall([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
