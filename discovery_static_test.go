package multidb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStaticListsTheDatabasesThatExist(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db")
	at := time.Unix(7, 0)
	vars := []Var{{"k", "v"}}
	s := Static(Database{ID: "a", Path: root + "/./a.db", Vars: vars, RelPath: "rel", ModTime: at}, Database{ID: "b", Path: root + "/b.db"})
	vars[0].Value = "changed"
	db := wantListing(t, s, "a")[0]
	if db.Path != root+"/a.db" || db.RelPath != "rel" || !db.ModTime.Equal(at) || db.Vars[0].Value != "v" {
		t.Errorf("got %+v", db)
	}
	if db, ok := s.(DiscovererLocator).Locate("b"); !ok || db.Path != root+"/b.db" {
		t.Errorf("located: %+v, %v", db, ok)
	}
	if _, ok := s.(DiscovererLocator).Locate("c"); ok {
		t.Error("c is located")
	}
	if got := s.(DiscovererRoot).Root(); got != root {
		t.Errorf("the root is %q", got)
	}
	makeFiles(t, root, "b.db")
	wantListing(t, s, "a", "b")
}

func TestAFileWithTwoPathsIsListedOnceByTheFirst(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "m.db")
	must(t, os.Symlink("m.db", filepath.Join(root, "link.db")))
	db := wantListing(t, Static(Database{ID: "1", Path: root + "/link.db"}, Database{ID: "2", Path: root + "/m.db"}), "1")[0]
	if filepath.Base(db.Path) != "m.db" || !strings.HasSuffix(db.RelPath, "/link.db") {
		t.Errorf("got %+v", db)
	}
}

func TestAStaticDatabaseInAMissingDirectoryIsAnError(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "a.db")
	must(t, os.Symlink("nowhere", root+"/l.db"))
	dbs, errs := listing(Static(Database{ID: "1", Path: root + "/gone/x.db"}, Database{ID: "2", Path: root + "/l.db"},
		Database{ID: "3", Path: root + "/a.db"}).Discover(t.Context()))
	wantIDs(t, dbs, "3")
	if len(errs) != 2 || !errors.Is(errs[0], fs.ErrNotExist) || !errors.Is(errs[1], fs.ErrNotExist) {
		t.Errorf("got %v", errs)
	}
}

func TestAWrongStaticListIsReportedByValidate(t *testing.T) {
	for want, dbs := range map[string][]Database{
		"has no ID":                 {{Path: "/a"}},
		`two databases have the ID`: {{ID: "a", Path: "/a"}, {ID: "a", Path: "/b"}},
		"is not absolute":           {{ID: "a", Path: "a"}},
		"belongs to a database":     {{ID: "a", Path: "/a.db-wal"}},
	} {
		t.Run(want, func(t *testing.T) {
			s := Static(dbs...)
			wantError(t, s.(validator).validate(), ErrInvalidOption, want)
			if dbs, errs := listing(s.Discover(t.Context())); len(dbs) > 0 || len(errs) != 1 {
				t.Errorf("listed: %v, %v", dbs, errs)
			}
		})
	}
	must(t, Static().(validator).validate())
}
