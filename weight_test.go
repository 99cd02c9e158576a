//go:build links

package multidb_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const awsSDK = "github.com/aws/"

// The initialisers of an imported package are linked whether or not it is used. Those of the
// AWS SDK, tables of endpoints for the most part, were 158 kB of symbols when this was written.
func TestAProgramWithAFileReplicaLinksNoS3Client(t *testing.T) {
	linked := linkedBy(t, "./testdata/linked/file")
	total := 0
	for name, size := range linked {
		switch {
		case strings.HasPrefix(name, awsSDK+"aws-sdk-go-v2/service/s3.(*Client)"),
			strings.HasPrefix(name, awsSDK+"aws-sdk-go-v2/config.LoadDefaultConfig"),
			strings.HasPrefix(name, module+"/internal/store/s3.(*Client)"):
			t.Errorf("%s is linked", name)
		case strings.Contains(name, awsSDK):
			total += size
		}
	}
	const most = 300 << 10
	if total > most {
		t.Errorf("%d bytes of the AWS SDK are linked; want at most %d", total, most)
	}
}

// The linker drops methods that nobody calls, unless something in the program may look up any
// method by reflection; then it keeps all, the 112 operations of S3 among them: 10 MB.
// google.golang.org/protobuf, which litestream brings, does so before v1.36.12 with Go 1.26:
// it looks for "Methods" by name, and finds reflect.Value.Methods.
func TestAProgramWithS3LinksNoOperationThatIsNotUsed(t *testing.T) {
	linked := linkedBy(t, "./testdata/linked/s3")
	const operation = awsSDK + "aws-sdk-go-v2/service/s3.(*Client)."
	if linked[operation+"PutObject"] == 0 {
		t.Fatal("PutObject is not linked: this test does not see what is")
	}
	for _, unused := range []string{"CreateBucket", "ListBuckets", "PutBucketAcl"} {
		if linked[operation+unused] > 0 {
			t.Errorf("%s is linked, which nobody calls", unused)
		}
	}
}

// linkedBy builds a program as one outside this repository would be, and returns the sizes of
// its symbols.
func linkedBy(t *testing.T, dir string) map[string]int {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, dir)
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "nm", "-size", bin).Output()
	if err != nil {
		t.Fatalf("go tool nm: %v", err)
	}
	sizes := map[string]int{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 4 {
			if size, err := strconv.Atoi(f[1]); err == nil {
				sizes[strings.Join(f[3:], " ")] = size
			}
		}
	}
	if len(sizes) < 1000 {
		t.Fatalf("only %d symbols were read", len(sizes))
	}
	return sizes
}
