package bucket

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestWithoutAnEnvironmentTheBucketIsInThisProcess(t *testing.T) {
	b, err := Open(env(nil))
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Replica(t.Context(), "x/{{name}}/")
	if err != nil {
		t.Fatal(err)
	}
	if !b.Embedded() || !strings.Contains(b.String(), "inside this program") {
		t.Errorf("%s", b)
	}
	r.CloseIdleConnections()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnotherProcessFindsTheBucketOfThisOneByItsEnvironment(t *testing.T) {
	here, err := Open(env(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := here.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, v := range here.Environ() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	there, err := Open(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	r, err := there.Replica(t.Context(), "x/{{name}}/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.CloseIdleConnections()
	if there.Embedded() || there.Name() != here.Name() || there.Environ() != nil {
		t.Errorf("%s; its environment: %q", there, there.Environ())
	}
}

func TestTheEnvironmentNamesABucket(t *testing.T) {
	b, err := Open(env(map[string]string{EnvBucket: "b"}))
	if err != nil || b.Embedded() || b.Name() != "b" || b.String() != `S3: bucket "b" at AWS` || b.Held() != 0 || b.cfg.ForcePathStyle {
		t.Errorf("%s, %v", b, err)
	}
	b, err = Open(env(map[string]string{EnvBucket: "b", EnvEndpoint: "http://127.0.0.1:9"}))
	if err != nil || b.Embedded() || !b.cfg.ForcePathStyle || !strings.Contains(b.String(), "127.0.0.1:9") {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := Open(env(map[string]string{EnvEndpoint: "http://127.0.0.1:9"})); err == nil || !strings.Contains(err.Error(), EnvBucket) {
		t.Errorf("an endpoint without a bucket: %v", err)
	}
}
