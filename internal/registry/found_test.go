package registry

import (
	"errors"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
)

type tenant struct{ Entry }

// fleet is a registry with its databases added in a scan.
func fleet() *Registry[tenant] {
	r := New(func(v *tenant) *Entry { return &v.Entry })
	r.NextScan()
	return r
}

func add(r *Registry[tenant], id, path, prefix string, file fsid.ID, source int) *tenant {
	v := &tenant{}
	v.Identity = Identify(r.Schemes(), id, path, "", []Var(nil), prefix)
	r.Add(v, file, nil, source)
	return v
}

func file(ino uint64) fsid.ID { return fsid.ID{Dev: 1, Ino: ino} }

// TestAFileThatIsFoundIsDecidedAboutOnce has a row for each thing that a listing may
// have met: "x" is known at /x.db as file 1, by the first discoverer.
func TestAFileThatIsFoundIsDecidedAboutOnce(t *testing.T) {
	for _, c := range []struct {
		name        string
		found       Found
		fromCatalog bool    // nobody has listed x yet
		rival, twin fsid.ID // what stands at x's path
		want        Decision[tenant]
		ask         bool
		conflict    bool
		seen        bool // x counts as listed
		moved       bool
	}{
		{name: "x itself", found: Found{ID: "x", Path: "/x.db", Sight: Sight{File: file(1)}}, seen: true},
		{name: "a new one", found: Found{ID: "y", Path: "/y.db", Sight: Sight{File: file(2), Size: 9}}, ask: true,
			want: Decision[tenant]{Add: true, Unread: true}},
		{name: "a new and empty one", found: Found{ID: "y", Path: "/y.db", Sight: Sight{File: file(2)}}, ask: true,
			want: Decision[tenant]{Add: true}},
		{name: "x's file, renamed", found: Found{ID: "y", Path: "/y.db", Sight: Sight{File: file(1), Size: 9}}, ask: true,
			want: Decision[tenant]{Add: true}},
		{name: "a second name of x's file", found: Found{ID: "y", Path: "/y.db", Sight: Sight{File: file(1), Size: 9}}, ask: true,
			twin: file(1), conflict: true, seen: true},
		{name: "x's ID, moved to another path", found: Found{ID: "x", Path: "/new/x.db", Sight: Sight{File: file(2), Size: 9}}, ask: true,
			want: Decision[tenant]{Add: true, Unread: true}, moved: true},
		{name: "x's ID a second time", found: Found{ID: "x", Path: "/new/x.db", Sight: Sight{File: file(2), Size: 9}}, ask: true,
			rival: file(1), conflict: true},
		{name: "x's ID, which only the catalog has", found: Found{ID: "x", Path: "/new/x.db", Sight: Sight{File: file(2), Size: 9}}, ask: true,
			fromCatalog: true, rival: file(1), want: Decision[tenant]{Later: true}},
		{name: "the same at the end of the scan", found: Found{ID: "x", Path: "/new/x.db", Sight: Sight{File: file(2), Size: 9}, Last: true}, ask: true,
			fromCatalog: true, rival: file(1), conflict: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fleet()
			source := 0
			if c.fromCatalog {
				source = FromCatalog
			}
			x := add(r, "x", "/x.db", "p/x", file(1), source)
			c.found.Scan = r.NextScan()
			if known := r.Listed(c.found); (known != nil) != (!c.ask && c.seen) {
				t.Fatalf("listed as %v", known)
			} else if known == nil {
				q, ask := r.Ask(c.found)
				if ask != c.ask {
					t.Fatalf("something is asked: %v", ask)
				}
				got := r.Decide(c.found, q, c.rival, c.twin)
				if c.moved {
					c.want.Moved = x
				}
				if refused := got.Refused; errors.Is(refused, ErrConflict) == c.conflict {
					c.want.Refused = refused
				}
				if got != c.want {
					t.Errorf("%+v, want %+v", got, c.want)
				}
			}
			if r.SeenIn(x, c.found.Scan) != c.seen {
				t.Errorf("x counts as listed: %v", !c.seen)
			}
			if err, ok := r.Refused(c.found.ID); ok != c.conflict || ok && !errors.Is(err, ErrConflict) {
				t.Errorf("refused: %v, %v", ok, err)
			}
		})
	}
}

// TestARefusalIsNewsOnce, until the file is another one, or a conflict is over.
func TestARefusalIsNewsOnce(t *testing.T) {
	r := fleet()
	x := add(r, "x", "/x.db", "p/x", file(1), 0)
	f := Found{ID: "y", Path: "/y.db", Sight: Sight{File: file(1), Size: 9, Main: time.Unix(5, 0)}, Scan: r.NextScan()}
	decide := func(twin fsid.ID) Decision[tenant] {
		t.Helper()
		q, ask := r.Ask(f)
		if !ask {
			t.Fatal("nothing is asked")
		}
		return r.Decide(f, q, fsid.ID{}, twin)
	}
	if d := decide(file(1)); d.Refused == nil {
		t.Error("the first time it is no news")
	}
	if d := decide(file(1)); d.Refused != nil || d.Add {
		t.Errorf("the second time: %+v", d)
	}
	r.Remove(x)
	if d := decide(fsid.ID{}); !d.Add {
		t.Errorf("when x is gone: %+v", d)
	}
	none := errors.New("no database")
	r.Refuse("z", "/z.db", Sight{File: file(3), Size: 4}, 0, none)
	z := Found{ID: "z", Path: "/z.db", Sight: Sight{File: file(3), Size: 4}, Scan: r.NextScan()}
	if _, ask := r.Ask(z); ask || !errors.Is(r.WhyNot("z"), none) {
		t.Errorf("a file that is no database is looked at again as it is: %v", r.WhyNot("z"))
	}
	gone, refused := r.Unlisted(0, r.NextScan(), func(*tenant) bool { return false })
	if len(gone) != 0 || refused["z"] != "/z.db" {
		t.Errorf("unlisted: %v, %v", gone, refused)
	}
	z.Size = 5
	if _, ask := r.Ask(z); !ask || !errors.Is(r.WhyNot("z"), ErrNotFound) {
		t.Error("another file of that name is not looked at")
	}
}

func TestAPrefixThatBecomesFreeGoesToOneThatWasRefusedIt(t *testing.T) {
	r := fleet()
	a := add(r, "a", "/a.db", "p", file(1), 0)
	b := add(r, "b", "/b.db", "p", file(2), 0)
	if a.Refused != nil || !b.PrefixTaken || !errors.Is(b.Refused, ErrConflict) {
		t.Fatalf("refused: %v and %v", a.Refused, b.Refused)
	}
	if heir := r.Remove(a); heir != b || b.PrefixTaken || b.Refused != nil {
		t.Errorf("the heir is %v, refused: %v", heir, b.Refused)
	}
	if c := add(r, "c", "/c.db", "p", file(3), 0); !c.PrefixTaken || r.Remove(c) != nil {
		t.Error("the prefix was given away a second time")
	}
	if heir := r.Remove(b); heir != nil || r.Kept() != 0 {
		t.Errorf("the heir is %v; %d are left", heir, r.Kept())
	}
}

func TestOnlyWhatWasNotListedAndIsNotBusyIsLetGoOf(t *testing.T) {
	r := fleet()
	listed, held, leased, other, gone := add(r, "listed", "/1", "1", file(1), 0), add(r, "held", "/2", "2", file(2), 0),
		add(r, "leased", "/3", "3", file(3), 0), add(r, "other", "/4", "4", file(4), 1), add(r, "gone", "/5", "5", file(5), 0)
	held.Held = 1
	scan := r.NextScan()
	if r.Listed(Found{ID: "listed", Path: "/1", Sight: Sight{File: file(1)}, Scan: scan}) != listed {
		t.Fatal("it is not known")
	}
	got, _ := r.Unlisted(0, scan, func(v *tenant) bool { return v == leased })
	if len(got) != 1 || got[0] != gone || r.SeenIn(other, scan) {
		t.Errorf("%v are let go of", got)
	}
}
