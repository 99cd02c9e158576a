package localfile

import "github.com/multidb-go/multidb/internal/ship"

// SameMount reports whether a file may be renamed from one directory to the other:
// two volumes of one disk have the same device number, but no rename and no link
// leads from one to the other.
func SameMount(a, b string) bool {
	x, _, err := ship.FileID(a)
	if err != nil {
		return false
	}
	if y, _, err := ship.FileID(b); err != nil || x != y {
		return false
	}
	m, ok := mountOf(a)
	n, ok2 := mountOf(b)
	return !ok || !ok2 || m == n // where the system does not say, publish finds out
}
