//go:build interop

package interop

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

func TestStockLitestreamRestoresEveryDatabaseOfTheExample(t *testing.T) {
	g := startGateway(t)
	dir := t.TempDir()
	program, sources := filepath.Join(dir, "with_s3"), filepath.Join(dir, "sources")
	run(t, 5*time.Minute, environ(), "", "go", "build", "-C", "../..", "-o", program, "./examples/with_s3")

	output := run(t, 3*time.Minute, environ(
		"LITESTREAM_S3_BUCKET="+g.bucket,
		"LITESTREAM_S3_ENDPOINT="+g.endpoint,
		"AWS_ACCESS_KEY_ID="+g.accessKey,
		"AWS_SECRET_ACCESS_KEY="+g.secretKey,
		"AWS_REGION="+g.region,
	), "", program, "-keep", sources)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the example said:\n%s", output)
		}
	})

	for p := range 2 {
		for d := range 5 {
			project, database := fmt.Sprintf("project%d", p), fmt.Sprintf("db%d", d)
			t.Run(project+"/"+database, func(t *testing.T) {
				restored := g.stockRestore(t, "litestream/"+project+"/"+database)
				requireEqual(t, databasePath(sources, project, database), restored)
			})
		}
	}
}
