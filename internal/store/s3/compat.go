package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const acceptEncoding = "Accept-Encoding"

// leaveUnsigned keeps Accept-Encoding out of the signature: Google's front end
// and some proxies rewrite it, after which no signature over it is right. It is
// sent all the same, or net/http would ask for gzip.
func leaveUnsigned(stack *middleware.Stack) error {
	var value string // a stack is made for each operation, and its attempts follow each other
	set := func(id string, change func(http.Header)) middleware.FinalizeMiddleware {
		return middleware.FinalizeMiddlewareFunc(id, func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if req, ok := in.Request.(*smithyhttp.Request); ok {
				change(req.Header)
			}
			return next.HandleFinalize(ctx, in)
		})
	}
	return errors.Join(
		stack.Finalize.Insert(set("multidb.DropAcceptEncoding", func(h http.Header) {
			value = h.Get(acceptEncoding)
			h.Del(acceptEncoding)
		}), "Signing", middleware.Before),
		stack.Finalize.Insert(set("multidb.AddAcceptEncoding", func(h http.Header) {
			if value != "" {
				h.Set(acceptEncoding, value)
			}
		}), "Signing", middleware.After),
	)
}

// asked returns what the environment or the shared config file says about checksums,
// or def if they say nothing. The SDK's own config does not distinguish that from its
// default.
func asked(sources []any, def aws.RequestChecksumCalculation, defValidation aws.ResponseChecksumValidation) (aws.RequestChecksumCalculation, aws.ResponseChecksumValidation) {
	calculation, validation := aws.RequestChecksumCalculationUnset, aws.ResponseChecksumValidationUnset
	take := func(c aws.RequestChecksumCalculation, v aws.ResponseChecksumValidation) {
		if calculation == aws.RequestChecksumCalculationUnset {
			calculation = c
		}
		if validation == aws.ResponseChecksumValidationUnset {
			validation = v
		}
	}
	for _, source := range sources { // the environment comes first
		switch s := source.(type) {
		case config.EnvConfig:
			take(s.RequestChecksumCalculation, s.ResponseChecksumValidation)
		case config.SharedConfig:
			take(s.RequestChecksumCalculation, s.ResponseChecksumValidation)
		}
	}
	take(def, defValidation)
	return calculation, validation
}

// summed runs do, a request that writes, and runs it again with a Content-MD5 if the
// store demands a checksum, as buckets with Object Lock do; the SDK sends none to
// stores other than AWS. The client remembers that demand. do must rewind its body.
func summed[O any](c *Client, do func(...func(*s3.Options)) (O, error)) (O, error) {
	withMD5 := s3.WithAPIOptions(smithyhttp.AddContentChecksumMiddleware)
	if c.sums.Load() {
		return do(withMD5)
	}
	out, err := do()
	if !demandsSum(err) {
		return out, err
	}
	again, errAgain := do(withMD5)
	if demandsSum(errAgain) {
		return out, err // it was about something else
	}
	c.sums.Store(true)
	return again, errAgain
}

// demandsSum reports whether a store refused a write for want of a checksum. The
// codes differ: MissingContentMD5, InvalidRequest.
func demandsSum(err error) bool {
	if statusOf(err) != http.StatusBadRequest {
		return false
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	text := strings.ToLower(api.ErrorCode() + " " + api.ErrorMessage())
	return strings.Contains(text, "md5") || strings.Contains(text, "checksum") || api.ErrorCode() == "InvalidRequest"
}

// isARN reports whether Bucket is the ARN of an access point.
func (cfg Config) isARN() bool { return strings.HasPrefix(cfg.Bucket, "arn:") }

// checkARN says what is wrong with an ARN, or with what goes with it.
func (cfg Config) checkARN() error {
	a, err := arn.Parse(cfg.Bucket)
	parts := strings.FieldsFunc(a.Resource, func(r rune) bool { return r == ':' || r == '/' })
	switch {
	case err != nil,
		a.Service == "s3" && (len(parts) != 2 || parts[0] != "accesspoint"),
		a.Service == "s3-outposts" && (len(parts) != 4 || parts[0] != "outpost" || parts[2] != "accesspoint"),
		a.Service != "s3" && a.Service != "s3-outposts":
		return fmt.Errorf(`the bucket %q is not the ARN of an access point: write "arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME"`, cfg.Bucket)
	case cfg.ForcePathStyle, cfg.Endpoint != "" && pathStyle(cfg.Endpoint):
		return errors.New("the ARN of an access point becomes part of the host's name: it excludes ForcePathStyle, and an Endpoint by address")
	case cfg.Accelerate:
		return errors.New("transfer acceleration (Accelerate) excludes the ARN of an access point")
	}
	return nil
}

// arnRegion is the region in the ARN that Bucket is, else "".
func (cfg Config) arnRegion() string {
	a, err := arn.Parse(cfg.Bucket)
	if err != nil {
		return ""
	}
	return a.Region
}
