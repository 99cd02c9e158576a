package control

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"
)

// lifer is a fleet whose databases are taken through their lives.
type lifer struct {
	fleet
	each func(ctx context.Context, o EachOrder, tell func(EachOutcome) error)
}

func (l lifer) Removed() iter.Seq[Removed] {
	return slices.Values([]Removed{{ID: "a"}, {ID: "b", RemovedAt: time.Unix(1, 0).UTC()}})
}

func (l lifer) Each(ctx context.Context, o EachOrder, tell func(EachOutcome) error) {
	l.each(ctx, o, tell)
}

func (l lifer) ForgetEach(_ context.Context, name string) error {
	if name != "known" {
		return errors.New("no such name")
	}
	return nil
}

func TestWhatWasRemovedIsListed(t *testing.T) {
	c := serveActor(t, lifer{}, 0)
	var ids []string
	for r, err := range c.Removed(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	if !slices.Equal(ids, []string{"a", "b"}) {
		t.Errorf("%q", ids)
	}
	for _, err := range serveActor(t, fleet{}, 0).Removed(t.Context()) {
		if err == nil {
			t.Error("an older process lists something")
		}
	}
	if err := c.ForgetEach(t.Context(), "known"); err != nil {
		t.Error(err)
	}
	if err := c.ForgetEach(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "no such name") {
		t.Error(err)
	}
}

func TestEachIsToldAsItGoesAndEndsWhenNobodyListens(t *testing.T) {
	const limit = 20 * time.Millisecond
	ended := make(chan error, 1)
	c := serveActor(t, lifer{each: func(ctx context.Context, o EachOrder, tell func(EachOutcome) error) {
		for _, id := range []string{"a", "b"} {
			<-time.After(5 * limit) // longer than the server gives a question
			if tell(EachOutcome{ID: id + o.SQL, Done: true}) != nil {
				break
			}
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
	}}, limit)
	n := 0
	for out, err := range c.Each(t.Context(), EachOrder{Name: "n", SQL: "x"}) {
		if err != nil || out.ID != []string{"ax", "bx"}[n] {
			t.Fatalf("%+v, %v", out, err)
		}
		if n++; n == 2 {
			break
		}
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// A process that does not know dry runs must not take one for an order.
func TestADryRunOfEachIsAskedForAtAPlaceOfItsOwn(t *testing.T) {
	c := serveActor(t, lifer{each: func(_ context.Context, o EachOrder, tell func(EachOutcome) error) {
		_ = tell(EachOutcome{DryRun: o.DryRun})
	}}, 0)
	for _, dry := range []bool{true, false} {
		for out, err := range c.Each(t.Context(), EachOrder{Name: "n", SQL: "x", DryRun: dry}) {
			if err != nil || out.DryRun != dry {
				t.Errorf("%v: %+v, %v", dry, out, err)
			}
		}
	}
	var o EachOrder
	if err := json.Unmarshal([]byte(`{"name":"n","sql":"x","dry_run":true}`), &o); err != nil || o.DryRun {
		t.Errorf("the order itself says it: %+v, %v", o, err)
	}
}

func TestAWrongLifeOrderIsNamed(t *testing.T) {
	for want, o := range map[string]Order{
		"not done to all":  {Verb: Erase, All: true},
		"want one id":      {Verb: Rename, IDs: []string{"a", "b"}, To: "c"},
		"no new one":       {Verb: Remove, IDs: []string{"a"}, To: "c"},
		"and a new one":    {Verb: Fork, IDs: []string{"a"}},
		"for fork alone":   {Verb: Rename, IDs: []string{"a"}, To: "c", TXID: 1},
		"want ids, or all": {Verb: Evict},
	} {
		if err := o.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	c := serveActor(t, lifer{}, 0)
	for want, o := range map[string]EachOrder{
		"want a name": {SQL: "x"}, "want sql": {Name: "n"}, "user_version": {Name: "n", SQL: "x", UserVersion: -1},
		"too large": {Name: "n", SQL: strings.Repeat("x", maxOrder)},
	} {
		said := 0
		for _, err := range c.Each(t.Context(), o) {
			if said++; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", want, err)
			}
		}
		if said != 1 {
			t.Errorf("%q: %d answers", want, said)
		}
	}
}
