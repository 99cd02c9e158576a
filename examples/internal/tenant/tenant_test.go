package tenant

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
)

func digest(t *testing.T, path string) Digest {
	t.Helper()
	d, err := DigestedFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDigestIsOfTheContentOnly(t *testing.T) {
	for _, c := range []struct {
		name, query string
		want        string
	}{
		{"other pages", "VACUUM", ""},
		{"a row more", "INSERT INTO note VALUES(999, 'a', 'b', 1.5, NULL, 1)", "2 rows, not 1"},
		{"another value", "UPDATE note SET body = 'c'", "rows differ"},
		{"a blob for a text", "UPDATE note SET file = CAST('1' AS BLOB)", "rows differ"},
		{"a number for a text", "UPDATE note SET file = 1", "rows differ"},
		{"null instead of empty", "UPDATE note SET file = NULL", "rows differ"},
		{"a real that prints alike", "UPDATE note SET score = score + 1e-15", "rows differ"},
		{"an index less", "DROP INDEX note_author", "schema differs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a?b#c 100%.db")
			if err := Create(t.Context(), path, rand.New(rand.NewPCG(1, 1))); err != nil {
				t.Fatal(err)
			}
			db, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, q := range []string{"DELETE FROM note", "INSERT INTO note VALUES(1, 'a', 'b', 1.5, '1', 1)"} {
				if _, err := db.Exec(q); err != nil {
					t.Fatal(err)
				}
			}
			before := digest(t, path)
			if _, err := db.Exec(c.query); err != nil {
				t.Fatal(err)
			}
			if got := before.Diff(digest(t, path)); got != c.want {
				t.Errorf("diff %q, want %q", got, c.want)
			}
		})
	}
}

func TestCreateLeavesAnExistingDatabaseAlone(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	tree := Tree{Root: t.TempDir(), Projects: 2, Each: 2}
	if err := tree.Create(t.Context(), rnd); err != nil {
		t.Fatal(err)
	}
	before := digest(t, tree.Path(3))
	if err := tree.Create(t.Context(), rnd); err != nil {
		t.Fatal(err)
	}
	if diff := before.Diff(digest(t, tree.Path(3))); diff != "" {
		t.Error(diff)
	}
	if got := tree.ID(3); got != "project1/db1" {
		t.Errorf("ID(3) = %s", got)
	}
}
