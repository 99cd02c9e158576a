// Package browser looks at the page of multidbhttp with a real Chromium, without a screen:
// what is seen, that it fits narrow screens and can be used by keyboard alone, that its policy
// is not broken, and that nobody who names a tenant, or lures an operator to another site, can do
// anything by it. The tests are behind the build tag browser; `make browser` runs them, and fails
// rather than skips where Chromium is missing. MULTIDB_SCREENSHOTS names a directory for pictures.
package browser
