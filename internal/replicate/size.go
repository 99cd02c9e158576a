package replicate

import "github.com/multidb-go/multidb/internal/levels"

// Size is how much a prefix holds.
type Size struct {
	Objects int64 // LTX files and metadata.json
	Bytes   int64 // of the LTX files
}

// SizeOf returns what an inventory says of the size of a prefix.
func SizeOf(inv *levels.Inventory) Size {
	files, bytes := inv.Size()
	if files == 0 {
		return Size{}
	}
	return Size{Objects: int64(files) + 1, Bytes: bytes} // metadata.json is written before the first file
}

// EncodedSize is SizeOf for an encoded inventory; false: it is none.
func EncodedSize(inventory []byte) (Size, bool) {
	var inv levels.Inventory
	if len(inventory) == 0 || inv.UnmarshalBinary(inventory) != nil {
		return Size{}, false
	}
	return SizeOf(&inv), true
}
