package multidbhttp

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
)

func TestAllDatabasesAreLookedAtInATenthOfTheTimeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, unstarted(t), Options{})
		scans, takes := 0, time.Duration(0)
		s.all = func(yield func(multidb.Status) bool) {
			scans++
			<-time.After(takes)
			yield(multidb.Status{Database: multidb.Database{ID: "a"}})
		}
		look := func(after time.Duration, want int) {
			t.Helper()
			<-time.After(after)
			got, err := s.entries(t.Context())
			if err != nil || len(got) != 1 || scans != want {
				t.Errorf("%v, %v; looked %d times, want %d", got, err, scans, want)
			}
		}
		look(0, 1)
		look(minIndexAge-1, 1)
		takes = 3 * time.Second
		look(1, 2)
		look(30*time.Second-1, 2)
		look(1, 3)

		// Whoever waits for it goes away.
		<-time.After(time.Hour)
		other := make(chan error)
		go func() {
			_, err := s.entries(t.Context())
			other <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.entries(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-other; err != nil || scans != 4 {
			t.Errorf("%v, looked %d times", err, scans)
		}
	})
}
