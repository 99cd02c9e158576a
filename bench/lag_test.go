package main

import (
	"slices"
	"testing"
)

const second = int64(1e9)

func TestACommitHasArrivedWithTheFirstFileThatHasItOrALaterOne(t *testing.T) {
	commits := map[int][]int64{7: {10 * second, 11 * second, 12 * second}}
	arrived := []arrivedSeq{ // in no order, and one of another database
		{string(fleetID(7)), 6, 14 * second},
		{string(fleetID(8)), 9, 10 * second},
		{string(fleetID(7)), 4, 11 * second},
	}
	got, err := lags(commits, 4, arrived, 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{1, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("lags %v, want %v", got, want)
	}
	if got, err = lags(commits, 4, arrived, 11*second); err != nil || !slices.Equal(got, []float64{3, 2}) {
		t.Errorf("without those before the 11th second: %v, %v", got, err)
	}
}

func TestACommitThatNeverArrivedIsAnError(t *testing.T) {
	commits := map[int][]int64{0: {second, 2 * second}}
	got, err := lags(commits, 1, []arrivedSeq{{string(fleetID(0)), 1, 3 * second}}, 0)
	if err == nil || len(got) != 1 {
		t.Errorf("%v, %v; want one lag and an error", got, err)
	}
}
