package levels

// Size returns how many files the inventory has, and how many bytes they have together.
// Strays, of which it is not known whether they are there, do not count.
func (v *Inventory) Size() (files int, bytes int64) {
	for level := range v.levels {
		files += len(v.levels[level].files)
		bytes += size(v.levels[level].files)
	}
	return files, bytes
}
