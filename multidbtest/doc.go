// Package multidbtest helps to test programs that use multidb, and backends
// written for it. It is meant for _test.go files: it imports testing.
//
// # Testing a program
//
// [NewReplica] is a replica in memory. Give it to a Manager with
// multidb.WithReplica, let the program write, and look at what arrived:
// [Replica.Files], [Replica.Operations], or [Replica.WaitFor], which waits for
// an operation so that no test needs to sleep.
//
// [Replica.Inject] makes the storage fail: refuse, be slow, hang, or do what it
// was asked and lose the answer.
//
// # Testing a backend
//
// [TestReplicaFactory], [TestReplicaObjects] and [TestDiscoverer] are the
// conformance suites that multidb's own backends pass. Call them from a test of
// the backend:
//
//	func TestConformance(t *testing.T) {
//		multidbtest.TestReplicaFactory(t, func(t *testing.T) multidb.ReplicaFactory {
//			return mybackend.New(t.TempDir())
//		})
//	}
package multidbtest
