package config_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
)

func ExampleLoad() {
	dir, err := os.MkdirTemp("", "multidb-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "multidb.yaml")
	err = os.WriteFile(path, []byte(`
multi-db:
  patterns: ["/data/{{project}}/databases/{{database}}.db"]
  cold-sync-mode: none
  replica-template:
    type: file
    dir: /backup
    path: "{{project}}/{{database}}"
`), 0o600)
	if err != nil {
		fmt.Println(err)
		return
	}
	opts, err := config.Load(path)
	if err != nil {
		fmt.Println(err) // with file, line and column
		return
	}
	// What YAML has no word for is added.
	opts = append(opts, multidb.WithObserver(func(multidb.Event) {}))
	_, err = multidb.New(opts...)
	fmt.Println(err)
	// Output: <nil>
}

func ExampleParse() {
	c, err := config.Parse("multidb.yaml", []byte(`
multi-db:
  patterns:
    - "/data/{{project}}/databases/{{database}}.db"
  replica-template:
    type: s3
    bucket: ${S3_BUCKET}
    path: "litestream/{{project}}/{{database}}/"
    region: us-east-1
    sync-interval: 1s
`), func(name string) (string, bool) { return "backups", name == "S3_BUCKET" })
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c)
	opts, err := c.Options()
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = multidb.New(opts...)
	fmt.Println(err)
	// Output:
	// multidb.yaml: /data/{{project}}/databases/{{database}}.db to s3://backups/litestream/{{project}}/{{database}}/
	// <nil>
}

func ExampleParse_mistakes() {
	_, err := config.Parse("multidb.yaml", []byte(`
multi-db:
  patterns:
    - "/data/{{project}}/databases/{{database}}.db"
  max-hot-database: 1000
  replica-template:
    type: s3
    bucket: ${S3_BUCKET}
    path: "litestream/{{project}}/{{database}}/"
    retention: 30d
`), func(string) (string, bool) { return "", false })
	fmt.Println(err)
	// Output:
	// multidb.yaml:5:3: multi-db: unknown key "max-hot-database"; did you mean max-hot-databases?
	// multidb.yaml:8:13: multi-db.replica-template.bucket: the variable S3_BUCKET is not set; set it, or write ${S3_BUCKET:-text} for what it is then
	// multidb.yaml:10:16: multi-db.replica-template.retention: "30d" is not a duration: there are no days; write hours, 720h for 30 days
}
