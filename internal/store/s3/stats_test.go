package s3

// Total is the number of requests of every kind.
func (s Stats) Total() int64 { return s.Put + s.Get + s.List + s.Head + s.Delete }
