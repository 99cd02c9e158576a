package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/multidb-go/multidb/internal/store"
)

var _ store.Objects = (*Objects)(nil)

// Objects are plain objects under one prefix of the bucket. It has no state of its
// own. Safe for concurrent use. Every ctx bounds the request with all its retries,
// and the reading of a returned body.
type Objects struct{ p *Prefix }

// Objects returns the objects under dir. It does no I/O. The error wraps
// fs.ErrInvalid.
func (c *Client) Objects(dir string) (*Objects, error) {
	if err := store.CheckObjectDir(dir); err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return &Objects{c.Prefix(dir)}, nil
}

// Create creates an object by one PUT with If-None-Match, whatever its size: parts
// would be completed by a request whose condition some stores ignore.
//
// The error wraps fs.ErrExist only if an answer says so that is about this object and
// not about an earlier attempt of this call. Where such an attempt may have been done
// (its answer was lost, or was a server error) and its retry is refused, the object is
// read: the same bytes are a success, others fs.ErrExist, and if it cannot be read the
// error leaves it open, as every other one does.
//
// A store that does not refuse a second create is refused with
// ErrNoConditionalWrites, also where Config.AllowUnsafeWrites is set.
func (o *Objects) Create(ctx context.Context, name string, data []byte) error {
	key := o.p.key(name)
	c := o.p.c
	if err := o.mayCreate(ctx, name); err != nil {
		return err
	}
	a, err := c.api(ctx)
	if err != nil {
		return c.wrap("put", key, err)
	}
	in := c.putInput(key)
	in.ContentLength, in.IfNoneMatch = aws.Int64(int64(len(data))), aws.String("*")
	attempts, call := withCall(ctx)
	out, err := summed(c, func(opts ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
		in.Body = bytes.NewReader(data)
		return a.PutObject(attempts, in, opts...)
	})
	if err == nil && out.ETag == nil {
		return c.foreign("put", key)
	} else if err == nil {
		return nil
	}
	return o.settle(ctx, key, call, err, data)
}

// mayCreate refuses a wrong name, and a store that does not refuse a second create.
func (o *Objects) mayCreate(ctx context.Context, name string) error {
	c, key := o.p.c, o.p.key(name)
	if err := store.CheckObjectName(name); err != nil {
		return o.invalid("put", key, err)
	}
	if conditional, err := c.conditional(ctx, o.p); err != nil {
		return err
	} else if !conditional {
		return &Error{Op: "put", Key: key, Kind: ErrNoConditionalWrites,
			Msg: c.known.Load().reason + ": nothing would keep two owners of a fleet log apart, whatever AllowUnsafeWrites says. Use a store that honors it"}
	}
	return nil
}

// CreateFrom is Create with the next size bytes of r, of which it keeps at most a part in
// memory. Up to 64 MiB of a seekable r, and up to Config.PartSize of any other, are one
// PUT. More is sent in parts, as WriteLTXFile does it: where a store ignores the condition
// when they are completed, what counts is that nothing was there just before. If r fails
// or has fewer bytes, no object appears.
func (o *Objects) CreateFrom(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := store.CheckObjectSize(name, size); err != nil {
		return o.invalid("put", o.p.key(name), err)
	}
	if err := o.mayCreate(ctx, name); err != nil {
		return err
	}
	u := &upload{c: o.p.c, key: o.p.key(name), conditional: true, plain: true}
	if body, left, ok, err := sized(r); err != nil {
		return u.failed(fmt.Errorf("seek in source: %w", err))
	} else if ok && left >= size {
		r = io.NewSectionReader(body, 0, size)
	} else {
		r = store.Exactly(r, size)
	}
	return u.run(ctx, r)
}

// settle decides what a failed PUT means; see Create.
func (o *Objects) settle(ctx context.Context, key string, call *call, cause error, data []byte) error {
	c := o.p.c
	failed := c.wrap("put", key, cause)
	switch status := statusOf(cause); {
	case status == http.StatusPreconditionFailed && call.open == 0:
		return exists("put", c.cfg.Bucket, key)
	case status == http.StatusPreconditionFailed:
	case status == http.StatusConflict: // another write to the key was under way; it may have failed
	default:
		return failed
	}
	out, err := o.p.get(ctx, key, "")
	if isMissing(err) {
		return failed // deleted since, or never there
	} else if err != nil {
		return errors.Join(failed, err)
	}
	defer out.Body.Close() // only read from
	if call.open == 0 {
		return exists("put", c.cfg.Bucket, key)
	}
	same, err := holds(out.Body, data)
	switch {
	case err != nil:
		return errors.Join(failed, c.wrap("get", key, err))
	case same:
		return nil
	}
	return exists("put", c.cfg.Bucket, key)
}

// holds reports whether r has data and nothing else.
func holds(r io.Reader, data []byte) (bool, error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if !bytes.HasPrefix(data, buf[:n]) {
			return false, nil
		}
		data = data[n:]
		if err == io.EOF {
			return len(data) == 0, nil
		} else if err != nil {
			return false, err
		}
	}
}

// Open reads size bytes from offset on, to the end if size is 0; a negative offset
// counts from the end. A range that begins at the end or behind it is empty. The error
// wraps fs.ErrNotExist if there is no such object.
func (o *Objects) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	key := o.p.key(name)
	if err := errors.Join(store.CheckObjectName(name), store.CheckObjectRange(name, size)); err != nil {
		return nil, o.invalid("get", key, err)
	}
	byteRange := ""
	switch {
	case offset < 0:
		byteRange = fmt.Sprintf("bytes=%d", offset)
	case size > 0 && offset+size > offset: // else it overflows: to the end
		byteRange = fmt.Sprintf("bytes=%d-%d", offset, offset+size-1)
	case offset > 0:
		byteRange = fmt.Sprintf("bytes=%d-", offset)
	}
	out, err := o.p.get(ctx, key, byteRange)
	if byteRange != "" && statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		if offset >= 0 {
			return io.NopCloser(strings.NewReader("")), nil
		}
		// The object is empty, or the store refuses to give all of one that is shorter.
		out, err = o.p.get(ctx, key, "")
	}
	if err != nil {
		return nil, err
	}
	r, err := o.window(key, out, offset, size)
	if err != nil {
		return nil, errors.Join(err, out.Body.Close())
	}
	return r, nil
}

// window returns of an answer the part that was asked for: a store that does not know
// ranges sends the whole object.
func (o *Objects) window(key string, out *s3.GetObjectOutput, offset, size int64) (io.ReadCloser, error) {
	c := o.p.c
	if sent := aws.ToString(out.ContentRange); sent != "" {
		var first, last, total int64
		if _, err := fmt.Sscanf(sent, "bytes %d-%d/%d", &first, &last, &total); err != nil {
			return nil, c.foreign("get", key)
		}
		if want := offset; want < 0 && first != max(0, total+want) || want >= 0 && first != want {
			return nil, c.foreign("get", key) // bytes of another place must not be taken for these
		}
	} else if offset != 0 {
		skip := offset
		if offset < 0 {
			if out.ContentLength == nil {
				return nil, c.foreign("get", key)
			}
			skip = max(0, *out.ContentLength+offset)
		}
		if _, err := io.CopyN(io.Discard, out.Body, skip); err != nil && err != io.EOF {
			return nil, c.wrap("get", key, err)
		}
	}
	if size == 0 {
		return out.Body, nil
	}
	return &limited{io.LimitReader(out.Body, size), out.Body}, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// List lists the objects whose names begin with prefix and are greater than after, in
// the order of their bytes, by one LIST for every 1,000, made as the iteration goes on.
// An error is the last pair.
func (o *Objects) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		var none store.ObjectInfo
		if err := store.CheckObjectText(prefix, after); err != nil {
			yield(none, o.invalid("list", o.p.key(prefix), err))
			return
		}
		pages, err := o.p.pages(ctx, prefix, after)
		if err != nil {
			yield(none, err)
			return
		}
		last := ""
		for pages.more() {
			objects, err := pages.next(ctx)
			if err != nil {
				yield(none, err)
				return
			}
			for _, obj := range objects {
				name := strings.TrimPrefix(aws.ToString(obj.Key), o.p.key(""))
				switch {
				case name < last: // a reader that stops at the first gap would stop too early
					yield(none, &Error{Op: "list", Key: o.p.key(prefix), Msg: fmt.Sprintf("the store lists %q behind %q: use one that lists names in the order of their bytes (directory buckets of S3 Express do not)", name, last)})
					return
				case name == last: // a page may begin with what the one before ended in
					continue
				}
				last = name
				if name <= after || store.CheckObjectName(name) != nil {
					continue
				}
				if !yield(store.ObjectInfo{Name: name, Size: aws.ToInt64(obj.Size), Created: aws.ToTime(obj.LastModified).UTC()}, nil) {
					return
				}
			}
		}
	}
}

// Delete deletes objects, 1,000 a request. One that is not there is no error. On an
// error some of them may be deleted. With Config.NoDelete it does nothing, and returns
// nil.
func (o *Objects) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := store.CheckObjectName(name); err != nil {
			return o.invalid("delete", o.p.key(name), err)
		}
	}
	if o.p.c.cfg.NoDelete {
		return nil
	}
	for batch := range slices.Chunk(names, deleteBatch) {
		keys := make([]string, len(batch))
		for i, name := range batch {
			keys[i] = o.p.key(name)
		}
		if err := o.p.deleteKeys(ctx, keys); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (o *Objects) invalid(op, key string, err error) error {
	return &Error{Op: op, Key: key, Msg: o.p.c.clean(err.Error()), Err: err}
}
