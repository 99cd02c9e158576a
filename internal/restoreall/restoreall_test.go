package restoreall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fake is a source of the IDs "a/0" to "a/9", which restores files with the ID in them.
type fake struct {
	ids  []string
	errs map[string]error // of Restore
	hook func(id string)
}

func newFake() *fake {
	f := &fake{errs: map[string]error{}}
	for i := range 10 {
		f.ids = append(f.ids, fmt.Sprintf("a/%d", 9-i))
	}
	return f
}

func (f *fake) source() Source[string] {
	return Source[string]{
		List: func(yield func(string, error) bool) {
			for _, id := range f.ids {
				if !yield(id, nil) {
					return
				}
			}
		},
		Unlisted: func(error) string { return "" },
		ID:       func(id string) string { return id },
		Match:    func(string) bool { return true },
		Twice:    func(string) error { return errors.New("twice") },
		Restore: func(_ context.Context, id string, to Target) error {
			if f.hook != nil {
				f.hook(id)
			}
			if err := f.errs[id]; err != nil {
				return err
			}
			if _, err := os.Stat(to.TempDir); err != nil {
				return err
			}
			return errors.Join(os.MkdirAll(filepath.Dir(to.Path), 0o755), os.WriteFile(to.Path, []byte(id+to.Before.String()), 0o600))
		},
		Size: func(_ context.Context, id string, _ time.Time) (int64, error) { return 7, f.errs[id] },
	}
}

// told collects what is told, by status.
func (f *fake) run(ctx context.Context, opt Options) (told [Failed + 1][]string, err error) {
	opt.Parallel = max(opt.Parallel, 1)
	err = Run(ctx, f.source(), opt, func(int) {}, func(o Outcome[string]) { told[o.Status] = append(told[o.Status], o.ID) })
	return told, err
}

func TestWhatFailsIsToldAndTheNextRunGoesOn(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	f.errs["a/3"] = errors.New("broken")
	told, err := f.run(t.Context(), Options{Dir: dir, Parallel: 3, Plan: Plan{Source: "s"}})
	if err != nil || len(told[Restored]) != 9 || !slices.Equal(told[Failed], []string{"a/3"}) {
		t.Fatalf("%v, %v", told, err)
	}
	if _, err := f.run(t.Context(), Options{Dir: dir, Plan: Plan{Source: "other"}}); err == nil || !strings.Contains(err.Error(), "unfinished") {
		t.Errorf("it goes on with another source: %v", err)
	}
	clear(f.errs)
	told, err = f.run(t.Context(), Options{Dir: dir, Plan: Plan{Source: "s"}})
	if err != nil || len(told[Exists]) != 9 || !slices.Equal(told[Restored], []string{"a/3"}) {
		t.Fatalf("%v, %v", told, err)
	}
	if _, err := os.Stat(filepath.Join(dir, WorkName)); !os.IsNotExist(err) {
		t.Errorf("the work directory is still there: %v", err)
	}
}

func TestAFullDiskEndsIt(t *testing.T) {
	f := newFake()
	f.errs["a/2"] = fmt.Errorf("write: %w", syscall.ENOSPC)
	told, err := f.run(t.Context(), Options{Dir: t.TempDir()})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room") || len(told[Failed]) != 0 {
		t.Errorf("%v, %v", told, err)
	}
	if n := len(told[Restored]); n < 2 || n > 3 { // the third may have been handed out
		t.Errorf("%d were restored: %v", n, told)
	}
}

func TestWhatIsInterruptedIsNoFailure(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("told to")
	f.hook = func(id string) {
		if id == "a/4" {
			cancel(cause)
			f.errs[id] = context.Canceled
		}
	}
	told, err := f.run(ctx, Options{Dir: dir})
	if !errors.Is(err, cause) || len(told[Failed]) != 0 || len(told[Restored]) != 4 {
		t.Errorf("%v, %v", told, err)
	}
	if _, err := os.Stat(filepath.Join(dir, WorkName, "plan.json")); err != nil {
		t.Errorf("the plan is gone: %v", err)
	}
}

func TestADryRunMakesNothingAndKnowsThePlanOfAnUnfinishedRun(t *testing.T) {
	f, dir := newFake(), filepath.Join(t.TempDir(), "new")
	f.errs["a/1"] = errors.New("no backup")
	told, err := f.run(t.Context(), Options{Dir: dir, DryRun: true, Plan: Plan{Source: "s"}})
	if err != nil || len(told[Planned]) != 9 || !slices.Equal(told[Failed], []string{"a/1"}) {
		t.Fatalf("%v, %v", told, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("it has made something: %v", err)
	}
	if _, err := f.run(t.Context(), Options{Dir: dir, Plan: Plan{Source: "s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(t.Context(), Options{Dir: dir, DryRun: true, Plan: Plan{Source: "other"}}); err == nil {
		t.Error("a dry run of another source begins in an unfinished directory")
	}
}

func TestNoDatabaseIsNoSuccess(t *testing.T) {
	f := newFake()
	src := f.source()
	none := func() error {
		return Run(t.Context(), src, Options{Dir: t.TempDir(), Parallel: 1}, func(int) {}, func(Outcome[string]) {})
	}
	src.Match = func(string) bool { return false }
	if err := none(); !errors.Is(err, ErrNoMatch) {
		t.Errorf("none matches: %v", err)
	}
	f.ids = nil
	if err := none(); !errors.Is(err, ErrNone) {
		t.Errorf("there is none: %v", err)
	}
	away := errors.New("the store is away")
	src.List = func(yield func(string, error) bool) { yield("", away) }
	if err := none(); !errors.Is(err, away) {
		t.Errorf("nothing could be listed: %v", err)
	}
}

func TestASecondOneOfAnIDIsToldAndTheFirstIsRestored(t *testing.T) {
	f := newFake()
	f.ids = []string{"x", "x"}
	told, err := f.run(t.Context(), Options{Dir: t.TempDir()})
	if err != nil || !slices.Equal(told[Restored], []string{"x"}) || !slices.Equal(told[Failed], []string{"x"}) {
		t.Errorf("%v, %v", told, err)
	}
}
