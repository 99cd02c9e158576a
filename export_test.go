package multidb

// WithClock sets the Manager's clock.
var WithClock = withClock
