package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/pattern"
)

// readChunk is how many names of a directory are held at once.
const readChunk = 1024

// directory is an open directory; *os.File is one.
type directory interface {
	Readdirnames(n int) ([]string, error)
	ReadDir(n int) ([]fs.DirEntry, error)
	Seek(offset int64, whence int) (int64, error)
	Close() error
}

// openDirectory opens a directory and nothing else: O_DIRECTORY keeps a database
// that took its name meanwhile from being opened, and closed, by us.
func openDirectory(path string) (directory, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
}

// walk is one listing. Real files in real directories are reported as they are
// found. What may be a second name of one of them (symlinks, hard links) waits
// until all real files are known.
type walk struct {
	ctx   context.Context
	g     *Glob
	yield func(File, error) bool
	done  bool // the caller or ctx ended the listing; yield must not be called
	fresh bool // of directories that were just made

	seen     map[fsid.ID]struct{} // files reported
	ids      map[string]string    // paths reported; nil with one pattern, where IDs differ by construction
	waiting  []waiting
	followed map[visit]struct{} // directories entered below a symlink; nil until one is

	excludedID   fsid.ID
	excludedPath string // real path; empty: nothing is excluded
	seed         maphash.Seed
}

// place is where the walk is: a path, and the segment of the pattern that its
// last name stands for.
type place struct {
	pattern, segment int
	path             string
}

// waiting is a name that is decided about when all real files are known.
type waiting struct {
	place
	symlink bool // otherwise a file with several hard links
	wal     bool // of a hard link: a -wal is beside it
}

// visit is one way to read a directory. The second time finds only files that
// the first one reported; without this, symlinks to parents multiply.
type visit struct {
	pattern, segment int
	dir              fsid.ID
}

func newWalk(ctx context.Context, g *Glob, yield func(File, error) bool) *walk {
	w := &walk{ctx: ctx, g: g, yield: yield, seen: make(map[fsid.ID]struct{}), seed: maphash.MakeSeed()}
	if len(g.patterns) > 1 {
		w.ids = make(map[string]string)
	}
	return w
}

func (w *walk) run() {
	if err := w.exclude(); err != nil {
		w.fail(fmt.Errorf("excluded directory: %w", err))
		return // what is in it must not be listed
	}
	for i := range w.g.patterns {
		w.root(i)
	}
	w.settle()
}

// settle decides about the names that had to wait.
func (w *walk) settle() {
	for len(w.waiting) > 0 && w.alive() {
		round := w.waiting
		w.waiting = nil
		slices.SortFunc(round, inFixedOrder)
		for _, it := range round {
			w.judge(it)
		}
	}
}

// exclude resolves the excluded directory. One that does not exist cannot be
// entered.
func (w *walk) exclude() error {
	if w.g.excluded == "" {
		return nil
	}
	real, err := filepath.EvalSymlinks(w.g.excluded)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	w.excludedID, w.excludedPath = fsid.Of(info), real
	return nil
}

// alive reports whether the listing continues, and ends it if ctx has ended.
func (w *walk) alive() bool {
	if w.done {
		return false
	}
	if err := w.ctx.Err(); err != nil {
		w.fail(err)
		w.done = true
	}
	return !w.done
}

// failAt reports an error that leaves the rest of the listing complete: only what
// is at the paths, or below, was not listed.
func (w *walk) failAt(err error, paths ...string) { w.fail(unlistedAt(err, paths...)) }

func (w *walk) fail(err error) {
	if !w.done && !w.yield(File{}, err) {
		w.done = true
	}
}

// root lists one pattern. A root that is missing, or not the same any more, is an
// error: its volume may be unmounted, and everything below would seem removed.
func (w *walk) root(index int) {
	if !w.alive() {
		return
	}
	path := w.g.patterns[index].Root()
	before, err := os.Stat(path)
	if err == nil && !before.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	if err != nil {
		w.failAt(fmt.Errorf("discovery root: %w", err), path)
		return
	}
	w.directory(place{index, -1, path}, before)
	if w.done {
		return
	}
	after, err := os.Stat(path)
	if err == nil && fsid.Of(after) != fsid.Of(before) {
		err = fmt.Errorf("%s was replaced during the listing", path)
	}
	if err != nil {
		w.failAt(fmt.Errorf("discovery root: %w", err), path)
	}
}

// directory looks for the next segment of the pattern in a directory.
func (w *walk) directory(at place, info fs.FileInfo) {
	if !w.alive() {
		return
	}
	id := fsid.Of(info)
	if w.excludedPath != "" && id == w.excludedID {
		return
	}
	if w.followed != nil {
		v := visit{at.pattern, at.segment, id}
		if _, ok := w.followed[v]; ok {
			return
		}
		w.followed[v] = struct{}{}
	}
	w.g.watches.directory(at.path, w.fresh)
	next := place{at.pattern, at.segment + 1, at.path}
	text, ok := w.segment(next).Text()
	if !ok {
		w.read(next)
		return
	}
	next.path = join(at.path, text)
	info, err := os.Lstat(next.path)
	if err != nil {
		w.failUnlessGone(err, next.path)
		return
	}
	w.name(next, info.Mode(), info, true)
}

// read looks in the directory at.path for the names that match the segment.
func (w *walk) read(at place) {
	dir, err := w.g.open(at.path)
	if err != nil {
		w.failUnlessGone(err, at.path)
		return
	}
	defer func() { _ = dir.Close() }() // nothing was written; there is nothing to lose
	seg, file := w.segment(at), w.isFile(at)
	entries, err := dir.ReadDir(readChunk)
	var wals map[uint64]struct{}
	if file && err == nil {
		wals, entries, err = w.readWALs(dir, entries)
	}
	for w.alive() {
		for _, e := range entries {
			name := e.Name()
			if !seg.Matches(name, file) {
				continue
			}
			if !w.alive() {
				return
			}
			_, wal := wals[maphash.String(w.seed, name)]
			w.name(place{at.pattern, at.segment, join(at.path, name)}, e.Type(), nil, wal)
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			w.failUnlessGone(err, at.path)
			return
		}
		entries, err = dir.ReadDir(readChunk)
	}
}

// readWALs returns the hashes of the names that have a -wal in the directory, so
// that no stat is spent on one that is not there. A collision costs such a stat.
// Hashes, because a directory may hold 100,000 names. It continues after the first
// entries; if there are more, it then rewinds and returns the new first entries.
func (w *walk) readWALs(dir directory, first []fs.DirEntry) (map[uint64]struct{}, []fs.DirEntry, error) {
	wals := make(map[uint64]struct{})
	add := func(name string) {
		if db, ok := strings.CutSuffix(name, "-wal"); ok {
			wals[maphash.String(w.seed, db)] = struct{}{}
		}
	}
	for _, e := range first {
		add(e.Name())
	}
	for small := true; ; small = false {
		names, err := dir.Readdirnames(readChunk)
		for _, name := range names {
			add(name)
		}
		if err == io.EOF && small {
			return wals, first, io.EOF
		}
		if err == io.EOF {
			if _, err = dir.Seek(0, io.SeekStart); err == nil {
				first, err = dir.ReadDir(readChunk)
			}
			return wals, first, err
		}
		if err != nil {
			return nil, first, err
		}
	}
}

// name handles a name that matches: it is entered, reported, or has to wait. info
// is its lstat, if that is known already; wal says that a -wal may be beside it.
func (w *walk) name(at place, mode fs.FileMode, info fs.FileInfo, wal bool) {
	file := w.isFile(at)
	if mode&fs.ModeSymlink != 0 {
		w.waiting = append(w.waiting, waiting{place: at, symlink: true})
		return
	}
	if file && !mode.IsRegular() || !file && !mode.IsDir() {
		return
	}
	if info == nil {
		info, err := os.Lstat(at.path)
		if err != nil {
			w.failUnlessGone(err, at.path)
			return
		}
		// Once more, as the name may stand for something else by now.
		w.name(at, info.Mode(), info, wal)
		return
	}
	switch {
	case !file:
		w.directory(at, info)
	case fsid.Links(info) > 1:
		w.waiting = append(w.waiting, waiting{place: at, wal: wal})
	default:
		w.report(at, at.path, info, wal)
	}
}

// judge decides about a name that had to wait.
func (w *walk) judge(it waiting) {
	if !w.alive() {
		return
	}
	if !it.symlink {
		info, err := os.Lstat(it.path)
		if err != nil {
			w.failUnlessGone(err, it.path)
		} else if info.Mode().IsRegular() {
			w.report(it.place, it.path, info, it.wal)
		}
		return
	}
	real, info, err := follow(it.path)
	if err != nil {
		w.failAt(err, it.path)
		return
	}
	if info == nil || w.isExcluded(real) {
		return
	}
	file := w.isFile(it.place)
	switch {
	case !file && info.IsDir():
		if w.followed == nil {
			w.followed = make(map[visit]struct{})
		}
		w.directory(it.place, info)
	case file && isDatabaseFile(real, info):
		w.g.watches.linked(real)
		w.report(it.place, real, info, true)
	}
}

func (w *walk) segment(at place) pattern.Segment { return w.g.patterns[at.pattern].Segment(at.segment) }

func (w *walk) isFile(at place) bool {
	return at.segment == w.g.patterns[at.pattern].Depth()-1
}

// isExcluded reports whether a symlink leads into the excluded directory.
func (w *walk) isExcluded(real string) bool {
	return w.excludedPath != "" && (real == w.excludedPath || strings.HasPrefix(real, w.excludedPath+"/"))
}

// report yields the database named by at, whose file is real, unless the file was
// reported before.
func (w *walk) report(at place, real string, info fs.FileInfo, wal bool) {
	id := fsid.Of(info)
	if _, ok := w.seen[id]; ok {
		return
	}
	w.seen[id] = struct{}{}
	p := w.g.patterns[at.pattern]
	name, rel, ok := p.Match(at.path)
	if !ok {
		w.failAt(fmt.Errorf("pattern %q does not match its own file %q", p, at.path), at.path)
		return
	}
	if w.ids != nil {
		if other, ok := w.ids[name]; ok {
			w.failAt(&SameIDError{ID: name, Paths: [2]string{other, real}}, at.path, other, real)
			return
		}
		w.ids[name] = real
	}
	f := File{ID: name, Path: real, Rel: rel, Index: at.pattern, ModTime: info.ModTime(), File: id, Size: info.Size(), Main: info.ModTime()}
	if wal {
		var err error
		if f.ModTime, err = laterModTime(info, real+"-wal"); err != nil {
			w.failAt(err, at.path, real)
			return
		}
	}
	if !w.yield(f, nil) {
		w.done = true
	}
}

// failUnlessGone reports an error about a name that a directory listed, unless the
// name is gone: then it was removed meanwhile, which is not an error.
func (w *walk) failUnlessGone(err error, path string) {
	if !errors.Is(err, fs.ErrNotExist) {
		w.failAt(err, path)
	}
}

// inFixedOrder puts real paths first; the same name of a file wins every time.
func inFixedOrder(a, b waiting) int {
	if a.symlink != b.symlink {
		if b.symlink {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.pattern, b.pattern), cmp.Compare(a.path, b.path))
}

func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}

// follow returns what a symlink leads to; nothing if the symlink itself is gone.
// One that leads nowhere may lead to a volume that is not mounted: an error.
func follow(link string) (real string, info fs.FileInfo, err error) {
	if real, err = filepath.EvalSymlinks(link); err == nil {
		info, err = os.Lstat(real)
	}
	if err == nil {
		return real, info, nil
	}
	if _, gone := os.Lstat(link); errors.Is(gone, fs.ErrNotExist) {
		return "", nil, nil
	}
	return "", nil, fmt.Errorf("symlink %s: %w", link, err)
}

// isDatabaseFile reports whether a real file may be a database.
func isDatabaseFile(path string, info fs.FileInfo) bool {
	return info.Mode().IsRegular() && !pattern.IsSidecar(filepath.Base(path))
}

// laterModTime is when the database or its WAL was last written. A missing WAL is
// not an error.
func laterModTime(info fs.FileInfo, wal string) (time.Time, error) {
	w, err := os.Lstat(wal)
	if errors.Is(err, fs.ErrNotExist) {
		return info.ModTime(), nil
	}
	if err != nil {
		return time.Time{}, err
	}
	if w.ModTime().After(info.ModTime()) {
		return w.ModTime(), nil
	}
	return info.ModTime(), nil
}
