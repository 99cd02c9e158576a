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
// [NewMembership] has the members of a cluster in memory, for several Managers of one test.
// Its nodes can be cut off and killed.
//
// # Virtual time
//
// A Manager works in a bubble of testing/synctest, with its default options, so that
// intervals, back-offs and timeouts need not be waited for.
//
//	func TestAnOrderIsShippedWithinTheMinute(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			replica := multidbtest.NewReplica()
//			m, err := multidb.New(multidb.WithReplica(replica),
//				multidb.WithDiscoverer(multidb.Glob(t.TempDir()+"/*/*.db")))
//			// Start it, write through Acquire, Release, and then:
//			time.Sleep(time.Minute)
//			if len(replica.Files("acme/orders")) == 0 {
//				t.Error("nothing was replicated")
//			}
//			err = m.Close(t.Context()) // before the bubble ends, or synctest reports a deadlock
//		})
//	}
//
// Directories are polled there instead of watched, which EventWatch says, as time stands
// still where a goroutine waits for the system. For the same reason a replica has to be
// one of NewReplica or NewFileReplica: a connection to S3 waits for the network.
// The files have the system's time stamps, which lie in the future there, so that what was
// written stays hot; an hour of one hot database takes some seconds.
//
// # Testing a backend
//
// [TestReplicaFactory], [TestReplicaObjects], [TestDiscoverer] and [RunMembershipConformance] are the
// conformance suites that multidb's own backends pass. Call them from a test of
// the backend:
//
//	func TestConformance(t *testing.T) {
//		multidbtest.TestReplicaFactory(t, func(t *testing.T) multidb.ReplicaFactory {
//			return mybackend.New(t.TempDir())
//		})
//	}
package multidbtest
