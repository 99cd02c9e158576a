package multidbtest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/store"
)

// objectsPage is how many names one operation lists, as on S3.
const objectsPage = 1000

// Dir implements multidb.ReplicaObjects: it is Prefix.
func (r *Replica) Dir(db multidb.Database) (string, error) { return r.Prefix(db) }

// DatabaseAt implements multidb.ReplicaObjects.
func (r *Replica) DatabaseAt(dir string) (multidb.Database, error) {
	return multidb.TenantAt(r.template, dir, nil)
}

// Objects implements multidb.ReplicaObjects. Faults apply to objects too, with dir as
// their Prefix. All stores of one directory have the same objects, and one of a
// directory above it has them too.
func (r *Replica) Objects(dir string) (multidb.ObjectStore, error) {
	if err := store.CheckObjectDir(dir); err != nil {
		return nil, err
	}
	return &objects{replica: r, dir: dir}, nil
}

// objects is one directory of objects of a Replica. Safe for concurrent use.
type objects struct {
	replica *Replica
	dir     string
}

func (o *objects) key(name string) string { return o.dir + "/" + name }

func (o *objects) op(op Op, name string) *Operation {
	return &Operation{Op: op, Prefix: o.dir, Object: name, Level: AllLevels}
}

// CreateFrom has the object in memory, as all that a Replica holds.
func (o *objects) CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := cmp.Or(store.CheckObjectName(name), store.CheckObjectSize(name, size), ctx.Err()); err != nil {
		return err
	}
	data, err := io.ReadAll(store.Exactly(r, size))
	if err != nil {
		return err
	}
	return o.Create(ctx, name, data)
}

func (o *objects) Create(ctx context.Context, name string, data []byte) error {
	if err := store.CheckObjectName(name); err != nil {
		return err
	}
	op := o.op(OpCreateObject, name)
	op.Size = int64(len(data))
	stored := bytes.Clone(data)
	return o.replica.doSized(ctx, op, func() error {
		o.replica.mu.Lock()
		defer o.replica.mu.Unlock()
		if _, ok := o.replica.objects[o.key(name)]; ok {
			return &fs.PathError{Op: "create", Path: o.key(name), Err: fs.ErrExist}
		}
		o.replica.objects[o.key(name)] = file{data: stored, createdAt: time.Now().UTC()}
		return nil
	})
}

func (o *objects) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	if err := cmp.Or(store.CheckObjectName(name), store.CheckObjectRange(name, size)); err != nil {
		return nil, err
	}
	op := o.op(OpOpenObject, name)
	var data []byte
	err := o.replica.doSized(ctx, op, func() error {
		o.replica.mu.Lock()
		f, ok := o.replica.objects[o.key(name)]
		o.replica.mu.Unlock()
		if !ok {
			return &fs.PathError{Op: "open", Path: o.key(name), Err: fs.ErrNotExist}
		}
		length := int64(len(f.data))
		if offset < 0 {
			offset = max(0, length+offset)
		}
		data = f.data[min(offset, length):]
		if size > 0 && size < int64(len(data)) {
			data = data[:size]
		}
		op.Size = int64(len(data))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &body{ctx: ctx, r: bytes.NewReader(data)}, nil
}

func (o *objects) List(ctx context.Context, prefix, after string) iter.Seq2[multidb.ObjectInfo, error] {
	return func(yield func(multidb.ObjectInfo, error) bool) {
		err := store.CheckObjectText(prefix, after)
		for from := after; err == nil; {
			var page []multidb.ObjectInfo
			more := false
			if err = o.replica.doSized(ctx, o.op(OpListObjects, from), func() error {
				page, more = o.page(prefix, from)
				return nil
			}); err != nil {
				break
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
				from = info.Name
			}
			if !more {
				return
			}
		}
		yield(multidb.ObjectInfo{}, err)
	}
}

// page returns the first names behind after, and whether there are more.
func (o *objects) page(prefix, after string) (page []multidb.ObjectInfo, more bool) {
	o.replica.mu.Lock()
	defer o.replica.mu.Unlock()
	for key, f := range o.replica.objects {
		name, ok := strings.CutPrefix(key, o.dir+"/")
		if ok && strings.HasPrefix(name, prefix) && name > after {
			page = append(page, multidb.ObjectInfo{Name: name, Size: int64(len(f.data)), Created: f.createdAt})
		}
	}
	slices.SortFunc(page, func(a, b multidb.ObjectInfo) int { return cmp.Compare(a.Name, b.Name) })
	n := min(len(page), objectsPage)
	return page[:n], n < len(page)
}

func (o *objects) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := store.CheckObjectName(name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return ctx.Err()
	}
	return o.replica.doSized(ctx, o.op(OpDeleteObjects, names[0]), func() error {
		o.replica.mu.Lock()
		defer o.replica.mu.Unlock()
		for _, name := range names {
			delete(o.replica.objects, o.key(name))
		}
		return nil
	})
}

// CorruptObject replaces the bytes of an object, behind the back of its stores, by what
// change makes of a copy of them; nil flips one bit in the middle. A missing object is
// an error that wraps fs.ErrNotExist.
func (r *Replica) CorruptObject(dir, name string, change func([]byte) []byte) error {
	if change == nil {
		change = flipBit
	}
	key := dir + "/" + name
	missing := &fs.PathError{Op: "corrupt", Path: key, Err: fs.ErrNotExist}
	r.mu.Lock()
	f, ok := r.objects[key]
	r.mu.Unlock()
	if !ok {
		return missing
	}
	data := change(bytes.Clone(f.data)) // without the lock: it may use the replica
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok = r.objects[key]; !ok {
		return missing
	}
	f.data = data
	r.objects[key] = f
	return nil
}
