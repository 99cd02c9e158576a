package multidb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"regexp"
	"strings"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store/metadata"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

var (
	_ TenantLister = (*S3Replica)(nil)
	_ TenantLister = (*FileReplica)(nil)
)

// Tenants lists the databases that the bucket holds under Path; see
// TenantLister. It is one LIST for every 1,000 names of each directory that a
// variable of Path stands for, and one GET for each database. With {{path}},
// whose depth is not known, it is a LIST for each directory instead. It needs
// the right to list the bucket.
func (r *S3Replica) Tenants(ctx context.Context) iter.Seq2[Database, error] {
	return walkTenants(ctx, tenantTree{
		template: r.template,
		names:    r.client.Dir,
		metadata: func(ctx context.Context, dir string) ([]byte, error) {
			return r.client.Prefix(dir).ReadMetadata(ctx)
		},
	})
}

// Tenants lists the databases that the directory holds; see TenantLister.
func (r *FileReplica) Tenants(ctx context.Context) iter.Seq2[Database, error] {
	return walkTenants(ctx, tenantTree{
		template: r.template,
		names:    r.store.Names,
		levels:   "ltx",
		metadata: func(ctx context.Context, dir string) ([]byte, error) {
			return r.store.Client(dir).ReadMetadata(ctx)
		},
	})
}

// tenantWalkers bounds the requests of one listing in flight.
const tenantWalkers = 32

// tenantTree is what the walk needs of a replica. Directories are relative, with
// slashes, and without one at the end.
type tenantTree struct {
	template *Template
	names    func(ctx context.Context, dir string) iter.Seq2[string, error]
	metadata func(ctx context.Context, dir string) ([]byte, error)
	levels   string // directory of the level directories in a prefix; "" is the prefix
}

// tenantTask is a directory to look into: one that the first depth segments of
// the template lead to or, if free, any one below {{path}}.
type tenantTask struct {
	dir   string
	depth int
	free  bool
}

type tenantFound struct {
	db  Database
	err error
}

// tenantWalk goes through the tree with a few workers; what is still to be done
// is a stack, so that a wide tree costs no more than its names.
type tenantWalk struct {
	tenantTree
	segments []tenantSegment
	found    chan tenantFound

	mu    sync.Mutex
	more  sync.Cond // of mu: tasks, busy or ended has changed
	tasks []tenantTask
	busy  int
	ended bool
}

func walkTenants(ctx context.Context, tree tenantTree) iter.Seq2[Database, error] {
	return func(yield func(Database, error) bool) {
		walkCtx, cancel := context.WithCancel(ctx)
		w := &tenantWalk{tenantTree: tree, segments: tenantSegments(tree.template), found: make(chan tenantFound)}
		w.more.L = &w.mu
		w.tasks = []tenantTask{{}}
		var workers sync.WaitGroup
		for range tenantWalkers {
			workers.Go(func() { w.work(walkCtx) })
		}
		stop := context.AfterFunc(walkCtx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ended = true
			w.more.Broadcast()
		})
		go func() { // joined by the receiving below, which ends when found is closed
			workers.Wait()
			close(w.found)
		}()
		defer func() {
			cancel()
			for range w.found { // a worker may be at sending
			}
			stop()
		}()
		for f := range w.found {
			if !yield(f.db, f.err) {
				return
			}
		}
		if err := context.Cause(ctx); err != nil {
			yield(Database{}, err)
		}
	}
}

func (w *tenantWalk) work(ctx context.Context) {
	for {
		w.mu.Lock()
		for len(w.tasks) == 0 && w.busy > 0 && !w.ended {
			w.more.Wait()
		}
		if len(w.tasks) == 0 || w.ended {
			w.mu.Unlock()
			return
		}
		t := w.tasks[len(w.tasks)-1]
		w.tasks = w.tasks[:len(w.tasks)-1]
		w.busy++
		w.mu.Unlock()

		w.do(ctx, t)

		w.mu.Lock()
		w.busy--
		if w.busy == 0 {
			w.more.Broadcast()
		}
		w.mu.Unlock()
	}
}

func (w *tenantWalk) push(t tenantTask) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tasks = append(w.tasks, t)
	w.more.Signal()
}

func (w *tenantWalk) tell(ctx context.Context, db Database, err error) {
	if err != nil && ctx.Err() != nil {
		return // the listing's own error says it
	}
	select {
	case w.found <- tenantFound{db, err}:
	case <-ctx.Done():
	}
}

func (w *tenantWalk) do(ctx context.Context, t tenantTask) {
	for !t.free && t.depth < len(w.segments) && w.segments[t.depth].literal != "" {
		t.dir = joinDir(t.dir, w.segments[t.depth].literal)
		t.depth++
	}
	switch {
	case t.free || t.depth < len(w.segments) && w.segments[t.depth].path:
		w.free(ctx, t.dir)
	case t.depth == len(w.segments):
		w.candidate(ctx, t.dir)
	default:
		for name, err := range w.names(ctx, t.dir) {
			if err != nil {
				w.tell(ctx, Database{}, fmt.Errorf("list the databases of the replica: %w", err))
				return
			}
			if sub, ok := strings.CutSuffix(name, "/"); ok && w.segments[t.depth].match.MatchString(sub) {
				w.push(tenantTask{dir: joinDir(t.dir, sub), depth: t.depth + 1})
			}
		}
	}
}

// candidate is a directory where the template puts a database.
func (w *tenantWalk) candidate(ctx context.Context, dir string) {
	data, err := w.metadata(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := w.all(ctx, dir)
		if err == nil && !w.hasHistory(names) {
			return
		}
		w.tenant(ctx, dir, nil, err)
		return
	}
	w.tenant(ctx, dir, data, err)
}

// free looks for databases at any depth: a prefix is known by its metadata.json
// or by the LTX files in its level directories.
func (w *tenantWalk) free(ctx context.Context, dir string) {
	names, err := w.all(ctx, dir)
	if err != nil {
		w.tell(ctx, Database{}, fmt.Errorf("list the databases of the replica: %w", err))
		return
	}
	is := names[metadata.Name]
	if is {
		data, err := w.metadata(ctx, dir)
		w.tenant(ctx, dir, data, err)
	} else if is, err = w.hasFiles(ctx, dir, names); err != nil || is {
		w.tenant(ctx, dir, nil, err)
	}
	for name := range names {
		sub, ok := strings.CutSuffix(name, "/")
		if !ok || is && (sub == w.levels || w.levels == "" && w.isLevel(sub)) {
			continue
		}
		w.push(tenantTask{dir: joinDir(dir, sub), free: true})
	}
}

// hasHistory reports whether a prefix that lists names was written by
// litestream: in its format of today, or in that of v0.3.
func (w *tenantWalk) hasHistory(names map[string]bool) bool {
	if w.levels != "" {
		return names[w.levels+"/"]
	}
	for name := range names {
		if w.isLevel(strings.TrimSuffix(name, "/")) {
			return true
		}
	}
	return names["generations/"]
}

// hasFiles looks for an LTX file: a directory called 0000 may be a tenant.
func (w *tenantWalk) hasFiles(ctx context.Context, dir string, names map[string]bool) (bool, error) {
	if w.levels != "" {
		if !names[w.levels+"/"] {
			return false, nil
		}
		dir = joinDir(dir, w.levels)
		var err error
		if names, err = w.all(ctx, dir); err != nil {
			return false, err
		}
	}
	for name := range names {
		level, ok := strings.CutSuffix(name, "/")
		if !ok || !w.isLevel(level) {
			continue
		}
		for name, err := range w.names(ctx, joinDir(dir, level)) {
			if err != nil {
				return false, err
			}
			if _, _, err := ltx.ParseFilename(name); err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

func (w *tenantWalk) tenant(ctx context.Context, dir string, data []byte, err error) {
	db, bad := TenantAt(w.template, dir, data)
	if err == nil {
		err = bad
	}
	if err != nil {
		err = opError("list", db.ID, err)
	}
	w.tell(ctx, db, err)
}

func (w *tenantWalk) all(ctx context.Context, dir string) (map[string]bool, error) {
	names := map[string]bool{}
	for name, err := range w.names(ctx, dir) {
		if err != nil {
			return nil, err
		}
		names[name] = true
		if err := untrusted.CheckFiles(len(names), untrusted.MaxFiles); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func joinDir(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// isLevel reports whether a directory is that of a level, 0 to 9: 0003 in a
// bucket, ltx/3 in a directory.
func (w *tenantWalk) isLevel(name string) bool {
	if w.levels == "" {
		var ok bool
		if name, ok = strings.CutPrefix(name, "000"); !ok {
			return false
		}
	}
	return len(name) == 1 && name[0] >= '0' && name[0] <= '0'+litestream.SnapshotLevel
}

// A tenantSegment is what stands between two slashes of a template.
type tenantSegment struct {
	literal string // if it has no variable
	path    bool   // {{path}} is in it
	match   *regexp.Regexp
}

func tenantSegments(t *Template) []tenantSegment {
	var (
		segments []tenantSegment
		source   strings.Builder
		current  tenantSegment
		literal  = true
	)
	end := func() {
		if literal {
			segments = append(segments, current)
		} else {
			current.literal = ""
			current.match = regexp.MustCompile(`(?s)\A` + source.String() + `\z`) // of quoted text and .+
			segments = append(segments, current)
		}
		current, literal = tenantSegment{}, true
		source.Reset()
	}
	for _, p := range t.parts {
		if p.name != "" {
			literal = false
			current.path = current.path || p.name == "path"
			source.WriteString(`.+`)
			continue
		}
		for i, text := range strings.Split(p.text, "/") {
			if i > 0 {
				end()
			}
			current.literal += text
			source.WriteString(regexp.QuoteMeta(text))
		}
	}
	end()
	return segments
}
