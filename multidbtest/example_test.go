package multidbtest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// A store that takes the metadata and loses the answer once.
func ExampleReplica_Inject() {
	ctx := context.Background()
	replica := multidbtest.NewReplica()
	client, err := replica.ReplicaClient(multidb.Database{ID: "project0/db0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	replica.Inject(multidbtest.Fault{
		Op:         multidbtest.OpWriteMetadata,
		Prefix:     "project0/db0",
		Times:      1,
		Err:        errors.New("connection reset"),
		LostAnswer: true,
	})

	metadata := client.(multidb.MetadataStore)
	fmt.Println(metadata.WriteMetadata(ctx, []byte("{}")))
	fmt.Printf("%s\n", replica.Metadata("project0/db0"))
	fmt.Println(metadata.WriteMetadata(ctx, []byte("{}")))
	// Output:
	// connection reset
	// {}
	// <nil>
}

// Waiting for what another goroutine does, without sleeping.
func ExampleReplica_WaitFor() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	replica := multidbtest.NewReplica()
	client, err := replica.ReplicaClient(multidb.Database{ID: "project0/db0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = client.Init(ctx) }()

	op, err := replica.WaitFor(ctx, func(op multidbtest.Operation) bool {
		return op.Prefix == "project0/db0"
	})
	fmt.Println(op.Op, err)
	// Output: init <nil>
}
