package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/superfly/ltx"
)

const (
	deleteBatch       = 1000 // the most DeleteObjects takes
	deleteConcurrency = 16   // where each object needs a request of its own
	deleteErrorsShown = 5
)

// DeleteLTXFiles deletes files, 1,000 a request. One that is not there is no
// error. On an error some of them may be deleted. With Config.NoDelete it does
// nothing, and returns nil.
func (p *Prefix) DeleteLTXFiles(ctx context.Context, files []*ltx.FileInfo) error {
	if p.c.cfg.NoDelete {
		return nil
	}
	for batch := range slices.Chunk(files, deleteBatch) {
		keys := make([]string, len(batch))
		for i, f := range batch {
			keys[i] = p.key(ltxName(f.Level, f.MinTXID, f.MaxTXID))
		}
		if err := p.deleteKeys(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

// DeleteAll deletes every object under the prefix, whoever wrote it. With
// Config.NoDelete it fails.
func (p *Prefix) DeleteAll(ctx context.Context) error {
	if p.c.cfg.NoDelete {
		return &Error{Op: "delete", Key: p.key(""), Err: errors.ErrUnsupported, Msg: "NoDelete is set: nothing is deleted"}
	}
	pages, err := p.pages(ctx, "", "")
	if err != nil {
		return err
	}
	for pages.more() {
		objects, err := pages.next(ctx)
		if err != nil {
			return err
		}
		keys := make([]string, len(objects))
		for i, o := range objects {
			keys[i] = aws.ToString(o.Key)
		}
		if err := p.deleteKeys(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

func (p *Prefix) deleteKeys(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	a, err := p.c.api(ctx)
	if err != nil {
		return p.c.wrap("delete", p.key(""), err)
	}
	if p.c.oneDelete.Load() {
		return p.deleteEach(ctx, a, keys)
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	out, err := a.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &p.c.cfg.Bucket,
		Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	}, s3.WithAPIOptions(smithyhttp.AddContentChecksumMiddleware)) // older stores insist on Content-MD5
	if err != nil {
		if !refusesBatch(err) {
			return p.c.wrap("delete", p.key(""), err)
		}
		if err := p.deleteEach(ctx, a, keys); err != nil {
			return err
		}
		p.c.oneDelete.Store(true) // proved: one by one works where the batch did not
		return nil
	}
	var errs []error
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			errs = append(errs, fmt.Errorf("%s: %s %s", aws.ToString(e.Key), code, aws.ToString(e.Message)))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	shown := errors.Join(errs[:min(len(errs), deleteErrorsShown)]...)
	e := &Error{Op: "delete", Key: p.key(""), Err: shown}
	if slices.ContainsFunc(out.Errors, func(e types.Error) bool { return aws.ToString(e.Code) == "AccessDenied" }) {
		e.Kind = ErrAccessDenied
	}
	e.Msg = fmt.Sprintf("%d of %d objects not deleted: %s", len(errs), len(keys), p.c.clean(shown.Error()))
	return e
}

// refusesBatch reports whether the store does not take DeleteObjects as the SDK
// sends it (its checksums, or at all), as opposed to refusing this one.
func refusesBatch(err error) bool {
	switch statusOf(err) {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusLengthRequired:
		return true
	case http.StatusBadRequest:
		switch codeOf(err) {
		case "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed", "RequestTimeout", "InvalidBucketName":
			return false
		}
		return true
	}
	return false
}

// deleteEach deletes key by key. It stops at the first error.
func (p *Prefix) deleteEach(ctx context.Context, a *api, keys []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	work := make(chan string)
	for range min(deleteConcurrency, len(keys)) {
		wg.Go(func() {
			for key := range work {
				_, err := a.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &p.c.cfg.Bucket, Key: &key})
				if err = p.c.wrap("delete", key, err); err != nil && !isMissing(err) {
					cancel(err)
				}
			}
		})
	}
	for _, key := range keys {
		if ctx.Err() != nil {
			break
		}
		work <- key // workers drain it to the end
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}
