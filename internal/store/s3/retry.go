package s3

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

const (
	retryDelayMin = 100 * time.Millisecond
	retryDelayMax = 5 * time.Second
	throttleDelay = gateBackoffMin / 4
)

// newRetryer returns the one retry policy of a client. It has none of the SDK's
// retry quota, which an outage drains to nothing and which only successes fill
// again: the gate does what the quota is for.
func newRetryer(maxAttempts int) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.RateLimiter = ratelimit.None
		o.Backoff = retry.BackoffDelayerFunc(retryDelay)
		o.Retryables = append(o.Retryables,
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{
				http.StatusRequestTimeout:  {}, // some stores shed load with it
				http.StatusTooManyRequests: {},
			}},
			// Another conditional write to the key was under way.
			retry.RetryableErrorCode{Codes: map[string]struct{}{codeConditionalConflict: {}}},
		)
	})
}

// retryDelay is the wait after a failed attempt, counted from one: it doubles,
// and half of it is jitter. After a throttled one it is short: the gate holds
// the retry back, together with everyone else. Spread over seconds, the retries
// would meet a busy store one by one, and each prolong the pause of all.
func retryDelay(attempt int, err error) (time.Duration, error) {
	if code := statusOf(err); code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		return rand.N(throttleDelay), nil
	}
	d := retryDelayMax
	if n := max(attempt-1, 0); n < 6 {
		d = min(retryDelayMin<<n, retryDelayMax)
	}
	return d/2 + rand.N(d/2+1), nil
}
