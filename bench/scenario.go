package main

import (
	"context"
	"regexp"
)

// figures is what one run of a scenario measured, by key.
type figures map[string]float64

// runner is one side of a scenario. It is called in a process of its own.
type runner func(ctx context.Context, sp *spec) (figures, error)

// scenario is something to measure. Sizes are numbers of databases; where the
// figure does not depend on it there is one.
type scenario struct {
	name, title string
	sizes       []int
	runs        int // at most so many repetitions, where one is slow; 0: as many as asked for
	multidb     runner

	stock     runner // nil: stock litestream has no such thing
	stockSize int    // how many databases stock is given; 0: the first size
	stockRuns int    // at most so many repetitions; 0: as many as of multidb

	place place
	rows  []row
}

// place is what a scenario needs around it.
type place uint8

const (
	alone   place = iota // nothing
	withS3               // an empty bucket, and a directory of its own
	inWorld              // a fleet of cold databases that the bucket has all of
)

// row is one line of the table, for every size.
type row struct {
	key  string
	what string
	unit unit
	bar  bar
	// stock is the key of stock's figure; empty: not comparable.
	stock string
	// scales: stock's figure grows with the number of databases, and is given
	// for another number of them by proportion.
	scales bool
	// more: the larger figure is the better one.
	more bool
}

// bar is what is asked of a figure; the zero bar asks nothing.
type bar struct {
	kind  barKind
	limit float64
	times float64 // and at least so many times better than stock
	text  string
}

type barKind uint8

const (
	noBar   barKind = iota
	atMost          // the limit
	atLeast         // the limit
	flat            // the same, within limit, at every size
)

// choose keeps the scenarios whose names match.
func choose(all []scenario, only *regexp.Regexp) []scenario {
	var out []scenario
	for _, sc := range all {
		if only.MatchString(sc.name) {
			out = append(out, sc)
		}
	}
	return out
}

// pick is a number for the full form and one for the short one.
func pick[T any](short bool, ifShort, ifFull T) T {
	if short {
		return ifShort
	}
	return ifFull
}

// scenarios are all there are, in the order of the table.
func scenarios(short bool) []scenario {
	return []scenario{
		coldScenario(short),
		discoveryScenario(short),
		foreignScenario(short),
		createdScenario(short),
		shipScenario(short),
		liveScenario(short),
		hotForeignScenario(short),
		hotPoolScenario(short),
		throughputScenario(short),
		acquireScenario(short),
		evictedScenario(short),
		diskScenario(short),
		tiersScenario(short),
		syncScenario(short),
		closeScenario(short),
		restoreScenario(short),
		restoreRateScenario(short),
		hourScenario(short),
		rowScenario(short),
		logRequestsScenario(short),
		logHotScenario(short),
		logLiveScenario(short),
		logMemoryScenario(short),
		logCreatedScenario(short),
		logSyncScenario(short),
		logRestoreScenario(short),
		logThroughputScenario(short),
		logStartScenario(short),
		nodesMoveScenario(short),
		nodesCrashScenario(short),
		nodesThroughputScenario(short),
		nodesIdleScenario(short),
		nodesJoinScenario(short),
	}
}
