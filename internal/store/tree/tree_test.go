package tree_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/multidb-go/multidb/internal/store/tree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func anyName(string) bool { return true }

// of is a Tree of the paths of files. What cannot be listed or read has an error.
func of(segments []tree.Segment, levels string, files []string, bad map[string]error) tree.Tree {
	return tree.Tree{
		Segments: segments, Levels: levels,
		Names: func(_ context.Context, dir string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				if err := bad[dir]; err != nil {
					yield("", err)
					return
				}
				seen := map[string]bool{}
				for _, file := range files {
					rest, ok := file, true
					if dir != "" {
						rest, ok = strings.CutPrefix(file, dir+"/")
					}
					if !ok {
						continue
					}
					name, _, below := strings.Cut(rest, "/")
					if below {
						name += "/"
					}
					if !seen[name] && !yield(name, nil) {
						return
					}
					seen[name] = true
				}
			}
		},
		Metadata: func(_ context.Context, dir string) ([]byte, error) {
			if err := bad[dir+"/metadata.json"]; err != nil {
				return nil, err
			}
			if slices.Contains(files, dir+"/metadata.json") {
				return []byte(dir), nil
			}
			return nil, fs.ErrNotExist
		},
	}
}

const ltxFile = "0000000000000001-0000000000000001.ltx"

func TestAFleetLogIsNotWalkedThroughAndATenantOfItsNamesIs(t *testing.T) {
	const epoch = "0000000000000001"
	log := []string{"fleet/map/" + epoch, "fleet/large/" + epoch + "/" + epoch, "fleet/" + epoch + "/" + epoch, "fleet/member/a@1/" + epoch + "-claim", "fleet/x/metadata.json"}
	tenants := []string{"p/map/metadata.json", "p/large/metadata.json", "p/member/metadata.json", "p/" + epoch + "/metadata.json", "q/map/metadata.json"}
	for name, segments := range map[string][]tree.Segment{"two segments": {{Matches: anyName}, {Matches: anyName}}, "any depth": {{Path: true}}} {
		of := of(segments, "", slices.Concat(log, tenants), nil)
		names, metadata := of.Names, of.Metadata
		var mu sync.Mutex
		var asked []string
		of.Names = func(ctx context.Context, dir string) iter.Seq2[string, error] {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, dir)
			return names(ctx, dir)
		}
		of.Metadata = func(ctx context.Context, dir string) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, dir)
			return metadata(ctx, dir)
		}
		var got []string
		for found, err := range of.Walk(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, found.Dir)
		}
		slices.Sort(got)
		if want := []string{"fleet/x", "p/" + epoch, "p/large", "p/map", "p/member", "q/map"}; !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", name, got, want)
		}
		if slices.Contains(asked, "fleet/"+epoch) || slices.Contains(asked, "fleet/large") || slices.Contains(asked, "fleet/member") {
			t.Errorf("%s: the log was looked through: %q", name, asked)
		}
	}
}

func TestTheWalkFindsPrefixesByMetadataOrByLTXFiles(t *testing.T) {
	bucket := []string{"a/x/metadata.json", "a/y/0000/" + ltxFile, "a/z/readme", "a/.w/generations/1/file", "b/x/metadata.json"}
	dir := []string{"a/x/metadata.json", "a/y/ltx/0/" + ltxFile, "a/z/readme", "a/y/ltx/1/x"}
	for name, c := range map[string]struct {
		tree tree.Tree
		want []string
	}{
		"a bucket":           {of([]tree.Segment{{Literal: "a"}, {Matches: anyName}}, "", bucket, nil), []string{"a/.w", "a/x a/x", "a/y"}},
		"some names":         {of([]tree.Segment{{Matches: func(s string) bool { return s == "b" }}, {Matches: anyName}}, "", bucket, nil), []string{"b/x b/x"}},
		"a directory":        {of([]tree.Segment{{Literal: "a"}, {Matches: anyName}}, "ltx", dir, nil), []string{"a/x a/x", "a/y"}},
		"at any depth":       {of([]tree.Segment{{Path: true}}, "ltx", dir, nil), []string{"a/x a/x", "a/y"}},
		"any depth, bucket":  {of([]tree.Segment{{Path: true}}, "", bucket, nil), []string{"a/x a/x", "a/y", "b/x b/x"}},
		"nothing is there":   {of([]tree.Segment{{Path: true}}, "", nil, nil), nil},
		"a literal template": {of([]tree.Segment{{Literal: "a"}, {Literal: "x"}}, "", bucket, nil), []string{"a/x a/x"}},
	} {
		var got []string
		for p, err := range c.tree.Walk(t.Context()) {
			if err != nil || p.Err != nil {
				t.Fatalf("%s: %v, %v", name, p.Err, err)
			}
			got = append(got, strings.TrimSpace(p.Dir+" "+string(p.Data)))
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

func TestTheWalkGoesOnAfterAPartThatFails(t *testing.T) {
	part, one := errors.New("part"), errors.New("one")
	files := []string{"a/x/metadata.json", "b/x/metadata.json", "c/x/metadata.json"}
	w := of([]tree.Segment{{Matches: anyName}, {Matches: anyName}}, "", files, map[string]error{"a": part, "b/x/metadata.json": one})
	var parts, ones, good int
	for p, err := range w.Walk(t.Context()) {
		switch {
		case errors.Is(err, part):
			parts++
		case errors.Is(p.Err, one) && p.Dir == "b/x":
			ones++
		case err == nil && p.Err == nil && p.Dir == "c/x":
			good++
		default:
			t.Errorf("%+v, %v", p, err)
		}
	}
	if parts != 1 || ones != 1 || good != 1 {
		t.Errorf("%d errors of a part, %d of one prefix, %d prefixes", parts, ones, good)
	}
}

func TestTheWalkEndsWithItsContextAndWithItsReader(t *testing.T) {
	files := []string{"a/metadata.json", "b/metadata.json", "c/metadata.json"}
	w := of([]tree.Segment{{Matches: anyName}}, "", files, nil)
	for range w.Walk(t.Context()) {
		break // goleak tells whether its workers end
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range w.Walk(ctx) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the last error is %v, want context.Canceled", last)
	}
}
