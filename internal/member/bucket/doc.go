// Package bucket keeps the members of a cluster in a directory of objects. It needs nothing but
// the store that the fleet log needs: objects that are created once and never changed.
//
// # How a node says that it is alive
//
// A node creates an object each heartbeat (3 s), with a number that rises by one, and then lists
// the objects of all nodes:
//
//	member/<name>@<life>/<number, 16 hex digits>-<the first 8 hex digits of the body's SHA-256>
//
// The body is the Member as JSON. It is read once for each life, and again when the name has another
// hash, so that what a node changes is seen without reading it each time. A node deletes its own
// objects but for the last two.
//
// An idle node makes one PUT and one LIST a heartbeat, 28,800 of each a day, which is 0.29 USD a day at
// S3's prices of 2026 (a PUT and a LIST cost the same), and as many deletions, which S3 does not
// charge. It reads one object for each life of another node. More than about 300 nodes need a second
// page of a listing, which is another request.
//
// # Who is alive
//
// No clock of a node is compared with one of another, or with that of the store: a node is silent
// while its number does not move. Each observer measures that by its own clock, which also
// counts the time in which the machine was suspended, and only over looks that succeeded: one look
// counts a heartbeat and a quarter at most. After two and a half heartbeats without a look, the
// counting begins anew. So a node that slept, or that could not reach the bucket, suspects nobody before
// it has looked several times. After Silence (9 s) a node is not a member any more, so one that
// died is gone 9 to 12 seconds later. When it moves again, it is one again. An observer that joins takes
// everybody whose objects it finds for alive at first. What was silent for ten minutes is deleted
// by whoever sees it.
//
// # One name, one node
//
// A life (a process) is of one of three kinds: outside, claiming, or a member. A claim is an object
// whose name ends in "-claim"; nobody takes it for a member.
//
//   - N1 Who is outside looks. While another life of the name is there whose number moves, the name is taken. To move once is
//     not enough, as the last request of a dead process may come late. One that does not move
//     for Silence is written off, and its objects are deleted. The life that is known to have
//     ended is left out at once. With nobody left, it claims.
//   - N2 Who claims creates the claim, and then looks. It goes back outside if it sees a claim of a smaller life, or an object of a
//     member that moves. While it sees a claim of a larger life, or a member that does not move, it claims again and looks
//     again, each heartbeat, until these have moved, gone, or were silent for too long. If it sees nobody, it becomes a
//     member.
//   - N3 A member stays one while each of its objects, and the first after the claim, was acknowledged within nine tenths of Silence of when
//     the request for the one before began. Otherwise it claims, as anybody may have written it off.
//
// Two that claim at once: whoever looks last sees the other one. If both see each other, the larger
// life goes outside, and the smaller one waits for that. If only one of them does, the other one is about to be a member,
// moves, and stays. Exactly one is left either way. Why is there no member beside another one? Whoever
// becomes a member saw the number of any former one stand still for all of Silence, by its own clock,
// from the end of the look that saw it first. By N3 that one is no member any more then, and before it
// is one again it looks, and finds the new one. This compares how fast two clocks run, not what they
// show. In case one stands still, there is a last rule: a member that has seen another member of its
// name move four times, with at most one look between in which it did not, goes outside if its own life is the larger.
//
// A session that went outside says so by Err, which wraps member.ErrNameTaken. It looks on, and
// claims when the name is free.
package bucket
