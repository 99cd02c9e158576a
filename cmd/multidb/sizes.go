package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/multidb-go/multidb/internal/control"
)

// showCost is what something costs, in USD.
func showCost(usd float64) string {
	if usd > 0 && usd < 0.01 {
		return "<0.01"
	}
	return fmt.Sprintf("%.2f", usd)
}

// showHeld is what the replica has of a database.
func showHeld(t control.Tenant) string {
	if !t.ReplicaSized {
		return "not known yet"
	}
	return fmt.Sprintf("%s in %d objects, %s USD a month", showBytes(t.ReplicaBytes), t.ReplicaObjects, showCost(t.MonthlyCost))
}

func showSizes(f control.Fleet) string {
	s := fmt.Sprintf("%s here, %s in %d objects at the replica, %s USD a month", showBytes(f.LocalBytes), showBytes(f.ReplicaBytes), f.ReplicaObjects, showCost(f.MonthlyCost))
	if f.ReplicaUnsized > 0 {
		s += fmt.Sprintf("; that of %d databases is not known yet", f.ReplicaUnsized)
	}
	return s
}

// showProof is when a database was proved, and what became of that.
func showProof(t control.Tenant) string {
	if t.ProvedError != "" {
		return fmt.Sprintf("last %s; %s", showTime(t.ProvedAt), show(t.ProvedError))
	}
	return showTime(t.ProvedAt)
}

func showDrills(d *control.Drills) string {
	return fmt.Sprintf("%d good, %d failed, %d postponed; %d databases fail, %d are not proved yet, the oldest drill is of %s",
		d.Done, d.Failed, d.Postponed, d.Failing, d.Unproved, showTime(d.Oldest))
}

// sizeFlag is -sizes: local, replica, or nothing.
type sizeFlag string

func (f *sizeFlag) String() string {
	if f == nil {
		return ""
	}
	return string(*f)
}

func (f *sizeFlag) Set(s string) error {
	switch s {
	case "true": // without a value
		s = "local"
	case "local", "replica":
	default:
		return fmt.Errorf("want -sizes, -sizes=local or -sizes=replica")
	}
	*f = sizeFlag(s)
	return nil
}

func (f *sizeFlag) IsBoolFlag() bool { return true }

// lsSizes lists databases by their size, the largest first.
func lsSizes(e *env, all []control.Tenant, by sizeFlag, asJSON bool) error {
	key := func(t control.Tenant) int64 { return t.LocalBytes }
	if by == "replica" {
		key = func(t control.Tenant) int64 { return t.ReplicaBytes }
	}
	slices.SortFunc(all, func(a, b control.Tenant) int {
		return cmp.Or(cmp.Compare(key(b), key(a)), strings.Compare(a.ID, b.ID))
	})
	out := newRows(e.stdout, asJSON, "ID", "LOCAL", "REPLICA", "OBJECTS", "USD A MONTH", "PROVED")
	for _, t := range all {
		held, objects, cost := "-", "-", "-"
		if t.ReplicaSized {
			held, objects, cost = showBytes(t.ReplicaBytes), fmt.Sprint(t.ReplicaObjects), showCost(t.MonthlyCost)
		}
		proved := showTime(t.ProvedAt)
		if t.ProvedError != "" {
			proved = "FAILED"
		}
		if err := out.add(t, show(t.ID), showBytes(t.LocalBytes), held, objects, cost, proved); err != nil {
			return err
		}
	}
	return out.end()
}
