package restore

import (
	"testing"

	"github.com/multidb-go/multidb/internal/sqlitedb"
)

// TestWhatIsNotSaidIsCheckedInFull: of a database that takes the place of another.
func TestWhatIsNotSaidIsCheckedInFull(t *testing.T) {
	if opt := (Options{}); opt.Unchecked || opt.Check != sqlitedb.Full {
		t.Errorf("it is checked to %v, or not: %v", opt.Check, opt.Unchecked)
	}
}
