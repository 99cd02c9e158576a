package s3

import (
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Dir yields the names directly under dir, which is a clean key without slashes
// at its ends; "" is the whole bucket. What has keys below it ends in a slash,
// as in ls -F. It is one LIST for every 1,000 names, whatever lies below them,
// made as the iteration goes on. An error is the last pair. ctx bounds it all.
func (c *Client) Dir(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		prefix := dir
		if dir != "" {
			prefix += "/"
		}
		a, err := c.api(ctx)
		if err != nil {
			yield("", c.wrap("list", prefix, err))
			return
		}
		pages := s3.NewListObjectsV2Paginator(a, &s3.ListObjectsV2Input{
			Bucket: &c.cfg.Bucket, Prefix: &prefix, Delimiter: aws.String("/"),
		})
		last := ""
		var at place
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield("", c.wrap("list", prefix, err))
				return
			}
			if !isListing(page) || !at.moved(page) {
				yield("", c.foreign("list", prefix))
				return
			}
			for _, p := range page.CommonPrefixes {
				// Some stores begin a page with what the one before ended in.
				name := aws.ToString(p.Prefix)
				if name == last {
					continue
				}
				last = name
				if !yieldName(yield, prefix, name) {
					return
				}
			}
			for _, o := range page.Contents {
				if !yieldName(yield, prefix, aws.ToString(o.Key)) {
					return
				}
			}
		}
	}
}

// yieldName leaves out what has no name: the placeholder object of a directory,
// which some tools make, and doubled slashes, which no prefix of ours has.
func yieldName(yield func(string, error) bool, prefix, key string) bool {
	name := strings.TrimPrefix(key, prefix)
	if name == "" || name == "/" {
		return true
	}
	return yield(name, nil)
}
