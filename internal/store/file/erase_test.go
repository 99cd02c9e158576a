package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/multidb-go/multidb/internal/store"
)

// files are all files and links below a directory, as slash-separated paths, sorted.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func write(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("four"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const ltx1 = "0000000000000001-0000000000000001.ltx"

func TestAnErasureDeletesWhateverIsBelowThePrefixAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a/b/ltx/0/"+ltx1, "a/b/ltx/9/"+ltx1, "a/b/metadata.json", "a/b/ltx/0/"+ltx1+".123.456.tmp", "a/b/notes", "a/b/x/y/z",
		"a/b.txt", "a/bc/ltx/0/"+ltx1, "a/b/sub/ltx/0/"+ltx1, "a/b/sub/else", "a/b/ltx/ltx/0/"+ltx1)
	c := s.Client("a/b")
	n, size, err := c.PrefixSize(t.Context())
	if err != nil || n != 6 || size != 24 {
		t.Errorf("%d objects of %d bytes, %v", n, size, err)
	}
	done, err := c.ErasePrefix(t.Context())
	if err != nil || done.Objects != 6 || done.Bytes != 24 {
		t.Errorf("%+v, %v", done, err)
	}
	for i, name := range []string{"ltx/", "sub/"} {
		if len(done.Left) != 2 || done.Left[i].Name != filepath.Join(dir, "a", "b")+"/"+name || !errors.Is(done.Left[i].Err, store.ErrOtherPrefix) {
			t.Fatalf("left %+v", done.Left)
		}
	}
	want := fmt.Sprint([]string{"a/b.txt", "a/b/ltx/ltx/0/" + ltx1, "a/b/sub/else", "a/b/sub/ltx/0/" + ltx1, "a/bc/ltx/0/" + ltx1})
	if got := fmt.Sprint(files(t, dir)); got != want {
		t.Errorf("there is %v, want %v", got, want)
	}
}

func TestAnErasedPrefixHasNoDirectory(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	write(t, dir, "tenants/a/ltx/0/"+ltx1, "tenants/a/metadata.json")
	if done, err := s.Client("tenants/a").ErasePrefix(t.Context()); err != nil || done.Objects != 2 || len(done.Left) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tenants", "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

func TestASymbolicLinkIsLeftByAnErasureAndSoIsMetadata(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, elsewhere, "precious")
	write(t, dir, "a/metadata.json", "a/ltx/0/"+ltx1)
	if err := os.Symlink(elsewhere, filepath.Join(dir, "a", "link")); err != nil {
		t.Skip(err)
	}
	done, err := New(dir).Client("a").ErasePrefix(t.Context())
	if err != nil || done.Objects != 1 || len(done.Left) != 2 || !errors.Is(done.Left[0].Err, errLink) || !errors.Is(done.Left[1].Err, store.ErrKept) {
		t.Errorf("%+v, %v", done, err)
	}
	if got := fmt.Sprint(files(t, dir), files(t, elsewhere)); got != "[a/link a/metadata.json] [precious]" {
		t.Error(got)
	}
}

func TestACopyIsMadeWhereAFileCannotHaveTwoNames(t *testing.T) {
	dir, other := t.TempDir(), "/dev/shm"
	if _, err := os.Stat(other); err != nil {
		t.Skip("there is no second file system")
	}
	shm, err := os.MkdirTemp(other, "multidb")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	s := New(dir)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	write(t, shm, ltx1)
	if err := os.MkdirAll(filepath.Join(dir, "a", "ltx"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shm, filepath.Join(dir, "a", "ltx", "0")); err != nil {
		t.Fatal(err)
	}
	from, to := s.Client("a"), s.Client("b")
	all, err := from.AllLTXFiles(t.Context(), false)
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := to.CopyLTXFile(t.Context(), from, all[0]); err != nil {
		t.Fatal(err)
	}
	copied, err := to.AllLTXFiles(t.Context(), false)
	if err != nil || len(copied) != 1 || !copied[0].CreatedAt.Equal(all[0].CreatedAt) || copied[0].Size != 4 {
		t.Errorf("%+v, %v", copied, err)
	}
}
