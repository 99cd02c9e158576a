package multidb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/multidb-go/multidb/internal/survey"
	"github.com/multidb-go/multidb/internal/watch"
)

// told is a source of notifications that a test makes.
type told struct {
	watch.Source
	events chan fsnotify.Event
}

func (told) Add(string) error                { return nil }
func (told) WatchList() []string             { return nil }
func (s told) Events() <-chan fsnotify.Event { return s.events }
func (told) Errors() <-chan error            { return nil }
func (told) Close() error                    { return nil }

// TestAWriteThatIsNeedlessIsNotToldAndANewNameIs. Red without needless, or without
// named, in Tell (internal/discover).
func TestAWriteThatIsNeedlessIsNotToldAndANewNameIs(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a.db", "b.db"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := told{events: make(chan fsnotify.Event)}
		g := Glob(filepath.Join(root, "{{database}}.db"))
		g.glob.Notifications = func() (watch.Source, error) { return s, nil }
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		run, err := g.watch(ctx, func(c survey.Change) { got = append(got, fmt.Sprint(c.Type, c.Database.ID)) },
			func(id, _ string) bool { return id == "a" })
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); run() }()
		for _, c := range []struct {
			name string
			op   fsnotify.Op
			want []string
		}{
			{"a.db-wal", fsnotify.Write, nil},
			{"b.db-wal", fsnotify.Write, []string{"1b"}},
			{"a.db-wal", fsnotify.Create, nil},
			{"a.db", fsnotify.Create, []string{"1a"}},
			{"a.db", fsnotify.Write, nil}, // the name was told
			{"a.db", fsnotify.Rename, []string{"2"}},
		} {
			got = nil
			s.events <- fsnotify.Event{Name: filepath.Join(root, c.name), Op: c.op}
			time.Sleep(10 * watch.Gap)
			synctest.Wait()
			if !slices.Equal(got, c.want) {
				t.Errorf("%v of %s: told %q, want %q", c.op, c.name, got, c.want)
			}
		}
		stop()
		<-done
	})
}
