package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/multidb-go/multidb/internal/store"
)

var (
	_ store.Eraser = (*Prefix)(nil)
	_ store.Sizer  = (*Prefix)(nil)
)

// ErasePrefix deletes every object below the prefix, whoever wrote it, with its older
// versions and delete markers where the bucket keeps them, and ends uploads in parts
// that never were completed; metadata.json last. The prefixes of other databases that lie
// below it are left. What the store refuses to delete is in Left with its reason: an
// object that is locked or that these credentials may not delete, all of them with
// Config.NoDelete. Where a version is left, a delete marker hides it. While an object is
// left that can still be seen, so is metadata.json.
//
// Whether there are older versions is asked first, by one GET. If that and listing them are
// refused, one entry of Left says so.
//
// An error is of a request that failed otherwise; what was done until then is returned with
// it. It may be called again at any time, and does the rest.
func (p *Prefix) ErasePrefix(ctx context.Context) (store.ErasedPrefix, error) {
	e := &eraser{p: p, kept: map[string]bool{}}
	var err error
	if e.a, err = p.c.api(ctx); err != nil {
		return e.done, p.c.wrap("erase", p.key(""), err)
	}
	err = e.run(ctx)
	return e.done, err
}

// PrefixSize counts the objects that an erasure would delete, older versions left out, by
// one LIST for every 1,000.
func (p *Prefix) PrefixSize(ctx context.Context) (objects, bytes int64, err error) {
	e := &eraser{p: p}
	if e.a, err = p.c.api(ctx); err != nil {
		return 0, 0, p.c.wrap("list", p.key(""), err)
	}
	if err := e.lookAround(ctx); err != nil {
		return 0, 0, err
	}
	err = e.list(ctx, "", func(page []version) error {
		for _, v := range page {
			if !e.others.Has(e.name(v)) {
				objects, bytes = objects+1, bytes+v.size
			}
		}
		return nil
	})
	return objects, bytes, err
}

// eraser is one ErasePrefix.
type eraser struct {
	p        *Prefix
	a        *api
	versions bool // all versions are listed
	others   store.Others
	markers  bool            // some were seen, or made
	kept     map[string]bool // keys of which a version could not be deleted
	visible  bool            // one of them can still be seen
	done     store.ErasedPrefix
}

// version is an object, or one version of it.
type version struct {
	key, id        string // id "": the object as it is
	size           int64
	latest, marker bool
}

func (e *eraser) name(v version) string { return strings.TrimPrefix(v.key, e.p.key("")) }

func (e *eraser) run(ctx context.Context) error {
	unknown, err := e.findOut(ctx)
	if err != nil {
		return err
	}
	e.done.Versioned = e.versions || unknown != nil
	if err := e.lookAround(ctx); err != nil {
		return err
	}
	isMetadata := func(v version) bool { return e.name(v) == metadataFile }
	if err := e.deleteAll(ctx, "", func(v version) bool { return !isMetadata(v) && !e.others.Has(e.name(v)) }); err != nil {
		return err
	}
	if err := e.abortUploads(ctx); err != nil {
		return err
	}
	if e.visible {
		err = e.keepMetadata(ctx)
	} else {
		err = e.deleteAll(ctx, metadataFile, isMetadata)
	}
	if unknown != nil {
		e.done.Left = append(e.done.Left, store.LeftObject{Name: e.p.key(""), Err: unknown})
	}
	e.done.Left = append(e.done.Left, e.others.Left(e.p.key(""))...)
	return err
}

// findOut asks whether the bucket keeps older versions, and whether they can be listed.
// unknown is why that is not known.
func (e *eraser) findOut(ctx context.Context) (unknown, err error) {
	c := e.p.c
	config, err := e.a.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &c.cfg.Bucket})
	if err == nil && config.Status == "" && config.MFADelete == "" {
		return nil, nil // it never was enabled
	} else if err != nil && !declines(err) {
		return nil, c.wrap("ask for the versioning of", "", err)
	}
	prefix := e.p.key("")
	_, err = e.a.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &c.cfg.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(1)})
	switch {
	case err == nil:
		e.versions = true
		return nil, nil
	case declines(err):
		return fmt.Errorf("%w: %w; the rights needed are s3:GetBucketVersioning, s3:ListBucketVersions and s3:DeleteObjectVersion",
			store.ErrVersionsUnknown, c.wrap("list the versions of", prefix, err)), nil
	}
	return nil, c.wrap("list the versions of", prefix, err)
}

// declines reports whether a store will not do what it was asked: it does not know the
// request, or these credentials may not make it.
func declines(err error) bool {
	switch statusOf(err) {
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return true
	case http.StatusForbidden:
		return codeOf(err) == "AccessDenied"
	case http.StatusBadRequest:
		return codeOf(err) == "NotImplemented" || codeOf(err) == "InvalidArgument" || codeOf(err) == "InvalidRequest"
	}
	return false
}

// lookAround finds the prefixes of other databases below this one.
func (e *eraser) lookAround(ctx context.Context) error {
	return e.list(ctx, "", func(page []version) error {
		for _, v := range page {
			e.others.See(e.name(v))
		}
		return nil
	})
}

// list lists what has a key that begins with a name, page by page.
func (e *eraser) list(ctx context.Context, name string, each func([]version) error) error {
	if e.versions {
		return e.listVersions(ctx, e.p.key(name), each)
	}
	pages, err := e.p.pages(ctx, name, "")
	if err != nil {
		return err
	}
	for pages.more() {
		objects, err := pages.next(ctx)
		if err != nil {
			return err
		}
		page := make([]version, len(objects))
		for i, o := range objects {
			page[i] = version{key: aws.ToString(o.Key), size: aws.ToInt64(o.Size), latest: true}
		}
		if err := each(page); err != nil {
			return err
		}
	}
	return nil
}

func (e *eraser) listVersions(ctx context.Context, prefix string, each func([]version) error) error {
	c := e.p.c
	in := &s3.ListObjectVersionsInput{Bucket: &c.cfg.Bucket, Prefix: &prefix}
	var before map[[2]string]bool // of the last page: some stores begin one with what the one before ended in
	for {
		out, err := e.a.ListObjectVersions(ctx, in)
		if err != nil {
			return c.wrap("list the versions of", prefix, err)
		}
		var page []version
		for _, v := range out.Versions {
			page = append(page, version{key: aws.ToString(v.Key), id: aws.ToString(v.VersionId), size: aws.ToInt64(v.Size), latest: aws.ToBool(v.IsLatest)})
		}
		for _, m := range out.DeleteMarkers {
			page = append(page, version{key: aws.ToString(m.Key), id: aws.ToString(m.VersionId), latest: aws.ToBool(m.IsLatest), marker: true})
		}
		for _, v := range page {
			if !strings.HasPrefix(v.key, prefix) || v.id == "" {
				return c.foreign("list the versions of", prefix)
			}
		}
		seen := make(map[[2]string]bool, len(page))
		page = slices.DeleteFunc(page, func(v version) bool {
			at := [2]string{v.key, v.id}
			seen[at] = true
			return before[at]
		})
		before = seen
		// As for a listing of objects (isListing, place).
		key, id := aws.ToString(out.NextKeyMarker), aws.ToString(out.NextVersionIdMarker)
		more := aws.ToBool(out.IsTruncated)
		if out.Name == nil && out.IsTruncated == nil ||
			more && (key == "" || key == aws.ToString(in.KeyMarker) && id == aws.ToString(in.VersionIdMarker)) {
			return c.foreign("list the versions of", prefix)
		}
		if err := each(page); err != nil || !more {
			return err
		}
		if in.KeyMarker, in.VersionIdMarker = &key, nil; id != "" {
			in.VersionIdMarker = &id
		}
	}
}

// deleteAll deletes what has a key that begins with a name, as far as want says so. A page
// is deleted when the next one is there: its last name is where that begins.
func (e *eraser) deleteAll(ctx context.Context, name string, want func(version) bool) error {
	var hide []version // left, and can be seen
	err := e.each(ctx, name, func(page []version) error {
		var batch []version
		for _, v := range page {
			if !want(v) {
				continue
			} else if v.marker {
				e.markers = true
				continue
			}
			batch = append(batch, v)
		}
		left, err := e.delete(ctx, batch)
		for _, v := range left {
			if e.kept[v.key] = true; v.latest {
				hide = append(hide, v)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := e.hide(ctx, hide); err != nil || !e.markers {
		return err
	}
	// Markers come last, and stay where they hide what is left.
	return e.each(ctx, name, func(page []version) error {
		var batch []version
		for _, v := range page {
			if v.marker && want(v) && !e.kept[v.key] {
				batch = append(batch, v)
			}
		}
		_, err := e.delete(ctx, batch)
		return err
	})
}

// each is list, one page behind.
func (e *eraser) each(ctx context.Context, name string, each func([]version) error) error {
	var before []version
	err := e.list(ctx, name, func(page []version) error {
		if err := each(before); err != nil {
			return err
		}
		before = page
		return nil
	})
	if err != nil {
		return err
	}
	return each(before)
}

// hide puts delete markers on what is left of keys that can be seen.
func (e *eraser) hide(ctx context.Context, left []version) error {
	if !e.versions || e.p.c.cfg.NoDelete {
		e.visible = e.visible || len(left) > 0
		return nil
	}
	for i := range left {
		left[i].id = ""
	}
	for len(left) > 0 {
		n := min(len(left), deleteBatch)
		refused, err := e.send(ctx, left[:n])
		if err != nil {
			return err
		}
		e.visible, left = e.visible || len(refused) > 0, left[n:]
	}
	return nil
}

// delete deletes objects or versions, and returns those that the store refused to.
func (e *eraser) delete(ctx context.Context, all []version) (left []version, err error) {
	for len(all) > 0 {
		n := min(len(all), deleteBatch)
		batch := all[:n]
		all = all[n:]
		refused, err := e.send(ctx, batch)
		if err != nil {
			return left, err
		}
		for _, v := range batch {
			why := cmp.Or(refused[[2]string{v.key, v.id}], refused[[2]string{v.key, ""}])
			switch {
			case why != nil:
				left = append(left, v)
				e.done.Left = append(e.done.Left, store.LeftObject{Name: v.key, Version: v.id, Err: why})
				continue
			case v.latest && !v.marker:
				e.done.Objects++
			default:
				e.done.Versions++
			}
			e.done.Bytes += v.size
		}
	}
	return left, nil
}

var errNoDelete = errors.New("NoDelete is set: nothing is deleted")

// send deletes a batch, and returns why the store refused to, by key and version.
func (e *eraser) send(ctx context.Context, batch []version) (map[[2]string]error, error) {
	c := e.p.c
	left := map[[2]string]error{}
	if c.cfg.NoDelete {
		for _, v := range batch {
			left[[2]string{v.key, v.id}] = errNoDelete
		}
		return left, nil
	}
	if c.oneDelete.Load() {
		return left, e.sendEach(ctx, batch, left)
	}
	ids := make([]types.ObjectIdentifier, len(batch))
	for i := range batch {
		if ids[i].Key = &batch[i].key; batch[i].id != "" {
			ids[i].VersionId = &batch[i].id
		}
	}
	out, err := e.a.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &c.cfg.Bucket,
		Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	}, s3.WithAPIOptions(smithyhttp.AddContentChecksumMiddleware))
	switch {
	case err != nil && refusesBatch(err):
		if err := e.sendEach(ctx, batch, left); err != nil {
			return left, err
		}
		if len(left) == 0 {
			c.oneDelete.Store(true)
		}
		return left, nil
	case err != nil && declines(err): // all of it
		for _, v := range batch {
			left[[2]string{v.key, v.id}] = c.wrap("delete", v.key, err)
		}
		return left, nil
	case err != nil:
		return left, c.wrap("delete", e.p.key(""), err)
	}
	asked := map[[2]string]bool{}
	for _, v := range batch {
		asked[[2]string{v.key, v.id}] = true
	}
	for _, f := range out.Errors {
		key, code := aws.ToString(f.Key), aws.ToString(f.Code)
		if code == "NoSuchKey" || code == "NoSuchVersion" {
			continue
		}
		why := &Error{Op: "delete", Key: key, Msg: c.clean(fmt.Sprintf("%s %s", code, aws.ToString(f.Message)))}
		if code == "AccessDenied" {
			why.Kind = ErrAccessDenied
			why.Msg += ": it is locked, or the right to delete it is missing (s3:DeleteObject, of versions s3:DeleteObjectVersion)"
		} else if code == "InternalError" || code == "SlowDown" || code == "ServiceUnavailable" {
			return left, why // it passes
		}
		at := [2]string{key, aws.ToString(f.VersionId)}
		if !asked[at] { // it does not say which version
			at[1] = ""
		}
		left[at] = why
	}
	return left, nil
}

// sendEach is send, by a request for each.
func (e *eraser) sendEach(ctx context.Context, batch []version, left map[[2]string]error) error {
	c := e.p.c
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	slots := make(chan struct{}, deleteConcurrency)
	for _, v := range batch {
		slots <- struct{}{}
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			in := &s3.DeleteObjectInput{Bucket: &c.cfg.Bucket, Key: &v.key}
			if v.id != "" {
				in.VersionId = &v.id
			}
			_, err := e.a.DeleteObject(ctx, in)
			if err == nil || isNotExist(err) || codeOf(err) == "NoSuchVersion" {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if why := c.wrap("delete", v.key, err); declines(err) {
				left[[2]string{v.key, v.id}] = why
			} else if failed == nil {
				failed = why
			}
		})
	}
	wg.Wait()
	return failed
}

// keepMetadata says that metadata.json is left, if it is there.
func (e *eraser) keepMetadata(ctx context.Context) error {
	return e.list(ctx, metadataFile, func(page []version) error {
		for _, v := range page {
			if e.name(v) == metadataFile && !v.marker {
				left := store.LeftObject{Name: v.key, Version: v.id, Err: store.ErrKept}
				if e.p.c.cfg.NoDelete {
					left.Err = errNoDelete
				}
				e.done.Left = append(e.done.Left, left)
			}
		}
		return nil
	})
}

// abortUploads ends the uploads in parts that were begun below the prefix, whose parts no
// listing shows.
func (e *eraser) abortUploads(ctx context.Context) error {
	c, prefix := e.p.c, e.p.key("")
	leave := func(name string, err error) {
		e.done.Left = append(e.done.Left, store.LeftObject{Name: name, Err: fmt.Errorf("parts of an upload that was not completed may be left: %w", err)})
	}
	in := &s3.ListMultipartUploadsInput{Bucket: &c.cfg.Bucket, Prefix: &prefix}
	for {
		out, err := e.a.ListMultipartUploads(ctx, in)
		if codeOf(err) == "NoSuchUpload" { // there is none at all
			return nil
		} else if err != nil && declines(err) {
			leave(prefix, c.wrap("list the uploads of", prefix, err))
			return nil
		} else if err != nil {
			return c.wrap("list the uploads of", prefix, err)
		}
		for _, u := range out.Uploads {
			key := aws.ToString(u.Key)
			if !strings.HasPrefix(key, prefix) {
				return c.foreign("list the uploads of", prefix)
			}
			if e.others.Has(strings.TrimPrefix(key, prefix)) {
				continue
			}
			if c.cfg.NoDelete {
				leave(key, errNoDelete)
				continue
			}
			_, err := e.a.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &c.cfg.Bucket, Key: &key, UploadId: u.UploadId})
			switch {
			case err == nil, codeOf(err) == "NoSuchUpload":
			case declines(err):
				leave(key, c.wrap("abort the upload of", key, err))
			default:
				return c.wrap("abort the upload of", key, err)
			}
		}
		key, id := aws.ToString(out.NextKeyMarker), aws.ToString(out.NextUploadIdMarker)
		if !aws.ToBool(out.IsTruncated) {
			return nil
		} else if key == "" || key == aws.ToString(in.KeyMarker) && id == aws.ToString(in.UploadIdMarker) {
			return c.foreign("list the uploads of", prefix)
		}
		in.KeyMarker, in.UploadIdMarker = &key, &id
	}
}
