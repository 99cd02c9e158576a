package catalog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

func notesOf(t *testing.T, c *Catalog, kind string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for n, err := range c.Notes(t.Context(), kind) {
		if err != nil {
			t.Fatal(err)
		}
		all[n.ID] = string(n.Value)
	}
	return all
}

func TestANoteStaysUntilItIsDeletedWhateverBecomesOfTheRecord(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Put(Record{ID: "a", Path: "/a"})
	if err := c.SetNotes(t.Context(), Note{"away", "a", []byte("1")}, Note{"away", "b", []byte{}}); err != nil {
		t.Fatal(err)
	}
	c.Delete("a")
	c.PutNote(Note{"away", "c", []byte("3")})
	c.PutNote(Note{"other", "a", []byte("x")})
	c.PutNote(Note{"away", "b", nil})
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err = Open(t.Context(), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if got := notesOf(t, c, "away"); fmt.Sprint(got) != "map[a:1 c:3]" {
		t.Errorf("notes %v", got)
	}
	if got := notesOf(t, c, "other"); fmt.Sprint(got) != "map[a:x]" {
		t.Errorf("notes of another kind: %v", got)
	}
}

func TestNotesThatAreSetAreThereAfterACrashWithTheRecordsQueuedBefore(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			c.Put(Record{ID: id, Path: "/" + id})
			if err := c.SetNotes(t.Context(), Note{"away", id, []byte(id)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := c.Abandon(); err != nil { // as a crash
		t.Fatal(err)
	}
	if c, err = Open(t.Context(), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	records := 0
	for _, err := range c.Load(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		records++
	}
	if n := len(notesOf(t, c, "away")); n != 50 || records != 50 {
		t.Errorf("%d notes and %d records of 50", n, records)
	}
}

func TestANewerNoteIsNotOverwrittenByOneThatWaitsForItsCommit(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if err := c.acquire(t.Context()); err != nil { // so that the batch waits
		t.Fatal(err)
	}
	set := make(chan error, 1)
	go func() { set <- c.SetNotes(t.Context(), Note{"away", "a", []byte("old")}) }()
	for waiting := false; !waiting; {
		c.mu.Lock()
		waiting = c.batch != nil
		c.mu.Unlock()
	}
	c.PutNote(Note{"away", "a", []byte("new")})
	c.release()
	if err := <-set; err != nil {
		t.Fatal(err)
	}
	if got := notesOf(t, c, "away"); got["a"] != "new" {
		t.Errorf("notes %v", got)
	}
}

func TestNotesAreRefusedByAClosedCatalog(t *testing.T) {
	var refused error
	c, err := Open(t.Context(), t.TempDir(), Options{OnError: func(err error) { refused = err }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.SetNotes(t.Context(), Note{"away", "a", []byte("1")}); !errors.Is(err, ErrClosed) {
		t.Errorf("set: %v", err)
	}
	if c.PutNote(Note{"away", "a", []byte("1")}); !errors.Is(refused, ErrClosed) {
		t.Errorf("put: %v", refused)
	}
}

func TestACatalogOfTheVersionBeforeGetsItsNotes(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Put(Record{ID: "a", Path: "/a"})
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := openDB(filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "DROP TABLE notes; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = Open(t.Context(), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if c.Recovered() != nil || !c.ClosedCleanly() {
		t.Errorf("begun anew: %v; closed cleanly: %v", c.Recovered(), c.ClosedCleanly())
	}
	if err := c.SetNotes(t.Context(), Note{"away", "a", []byte("1")}); err != nil {
		t.Fatal(err)
	}
}

func TestANoteThatSomebodyChangedIsLeftOutAndReported(t *testing.T) {
	var reported error
	c, err := Open(t.Context(), t.TempDir(), Options{OnError: func(err error) { reported = err }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if err := c.SetNotes(t.Context(), Note{"away", "a", []byte("1")}, Note{"away", "b", []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.db.ExecContext(t.Context(), "UPDATE notes SET value = x'99' WHERE id = 'a'"); err != nil {
		t.Fatal(err)
	}
	if got := notesOf(t, c, "away"); len(got) != 1 || got["b"] != "2" || reported == nil {
		t.Errorf("notes %v, reported %v", got, reported)
	}
}
