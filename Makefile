# Bare `make` lists the targets. Everything that CI runs is here, so that it can
# be run by hand; .ci/run only adds the order and a time limit for each.

include tools/versions.env

GO      ?= go
BIN     := $(CURDIR)/bin
# Build tags of the tests that need programs of others, for vet and the linters.
TAGS    := interop,sqlite3cli,versitygw,browser,links
# These are modules of their own, so that what only they need (other SQLite libraries, faulty
# networks, ORMs, OpenTelemetry, etcd) is nobody's dependency.
MODULES := . test test/etcd bench tools multidbotel etcdmembership examples/cluster/etcd examples/orm

# go.work is for editors: here each module is what it is by itself.
export GOWORK := off

VERSITYGW  := $(BIN)/versitygw-$(VERSITYGW_VERSION)/versitygw
LITESTREAM := $(BIN)/litestream-$(LITESTREAM_VERSION)/litestream
GORELEASER := $(BIN)/goreleaser-$(GORELEASER_VERSION)/goreleaser
# The torture tests use both, and do with less where they are not given.
PROGRAMS   := MULTIDB_VERSITYGW=$(VERSITYGW) MULTIDB_LITESTREAM=$(LITESTREAM)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile every package, the examples included
	$(GO) build ./...

.PHONY: test
test: ## run the tests; needs nothing but Go
	$(GO) test ./...

# gorm's dialector imports a second SQLite, in C, which nothing of ours needs.
.PHONY: orm
orm: ## run the examples of gorm, ent, bun, sqlc, goose and plain migrations
	CGO_ENABLED=0 $(GO) -C examples/orm test ./...

# The processes that are killed wait most of their time: more of them than there are cores.
.PHONY: attack
attack: $(VERSITYGW) $(LITESTREAM) ## run the short form of the torture tests
	$(PROGRAMS) $(GO) -C test test -count=1 -parallel 5 -timeout 15m ./torture

# What takes long under the race detector, and has one goroutine, or counts requests.
ONE_GOROUTINE := ^Test(ThePolic(y|ies)|NoRandomDamage|EveryStateOfARandomDatabase|TheEncoderWrites|OneGiantTransaction|AnActiveTenantCosts|AFleetWithALogCosts|EachRuleIsMissed|EveryShippedState|AFileSystemThatKeepsWhole|AStepTellsWhatBehind|EveryPageSizeIs|OneRowOfAWriter|RandomCompaction)

.PHONY: race race-library race-command race-torture
race: race-library ## run the shorter tests under the race detector; needs a C compiler
	$(MAKE) -j2 --output-sync=target race-command race-torture # each has one core's work

race-library:
	$(GO) test -race -short -skip '$(ONE_GOROUTINE)' -timeout 25m $$($(GO) list ./... | grep -v '/cmd/multidb$$')

race-command: # where goroutines share something
	$(GO) test -race -short -run 'Replicat|SIGHUP|Alarm|Listen|Port|Watched|RestoreAll|TakenOver|Unpack|InEveryDatabase' -timeout 10m ./cmd/multidb

race-torture: # without what watches processes that are built without it: attack has that
	$(GO) -C test test -race -short -skip '^Test(ATenantsLife|NobodyIsServedHalf|NothingSynced|NoProcessLoses|WhatNodesPromised)' -timeout 25m ./torture

.PHONY: bench
bench: ## measure beside stock litestream, into docs/PERFORMANCE.md; half an hour
	$(GO) -C bench run . -o ../docs/PERFORMANCE.md

.PHONY: microbench
microbench: ## run the benchmarks of single parts once
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Each fuzz target for FUZZ_TIME.
FUZZ_TIME ?= 1m

.PHONY: fuzz
fuzz: ## look for inputs that panic, hang or take memory without bound
	@set -e; for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			(set -x; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 20x $$pkg); \
		done; done

.PHONY: cover
cover: ## measure coverage across packages, into cover.out
	$(GO) test -short -coverpkg=./... -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -n 1

.PHONY: fmt-check
fmt-check: ## fail if a file is not as gofmt writes it
	@files=$$(gofmt -l .); test -z "$$files" || { printf 'not gofmt-clean:\n%s\n' "$$files" >&2; exit 1; }

.PHONY: vet
vet: ## run go vet, the interoperability tests included
	@set -e; for m in $(MODULES); do (set -x; $(GO) -C $$m vet -tags $(TAGS) ./...); done

.PHONY: lint
lint: linters ## run actionlint, staticcheck and errcheck
	$(BIN)/actionlint
	@set -e; for m in $(MODULES); do ( cd $$m; set -x; \
		$(BIN)/staticcheck -tags $(TAGS) ./...; \
		$(BIN)/errcheck -tags $(TAGS) -ignoretests -ignoregenerated -exclude $(CURDIR)/tools/errcheck.txt ./... ); done

# The root stays a face that can be read at a sitting: what is new gets a room below it.
.PHONY: rooms
rooms: ## measure how large and how entangled the root package is
	$(GO) run -C tools ./rooms -max-files 34 -max-lines 6690 -max-circle 11 -max-fields 22 -max-methods 68

.PHONY: api
api: ## write what importers can use into docs/api.txt: the accepted public API
	$(GO) run -C tools ./api -o ../docs/api.txt

.PHONY: api-check
api-check: ## fail if the public API is not the one in docs/api.txt
	$(GO) run -C tools ./api -check ../docs/api.txt

.PHONY: api-diff
api-diff: ## fail if the public API broke since the last release, unless CHANGELOG.md says so
	$(GO) run -C tools ./apidiff

# What is promised beside the system that the tests run on. Vet compiles the tests too.
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

.PHONY: cross
cross: ## vet every package for every platform of a release; minutes where nothing is cached
	@set -e; for p in $(PLATFORMS); do for m in $(MODULES); do \
		(set -x; CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) -C $$m vet -tags $(TAGS) ./...); done; done

.PHONY: tidy-check
tidy-check: ## fail if a go.mod or go.sum is not tidy
	@set -e; for m in $(MODULES); do (set -x; $(GO) -C $$m mod tidy -diff); done

.PHONY: tools
tools: linters $(VERSITYGW) $(LITESTREAM) ## build the linters and test programs into bin/

# `go build` rewrites a binary only when it is out of date.
.PHONY: linters
linters:
	cd tools && $(GO) build -o $(BIN)/ tool

# The version is part of the path: what is there is what is wanted.
$(VERSITYGW):
	GOBIN=$(@D) $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)

$(LITESTREAM):
	GOBIN=$(@D) $(GO) install github.com/benbjohnson/litestream/cmd/litestream@$(LITESTREAM_VERSION)

# With the newer Go that it may ask for: what it builds is built by $(GO) all the same.
$(GORELEASER):
	GOTOOLCHAIN=auto GOBIN=$(@D) $(GO) install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)

# The manual page and the completions that a release has, as the command prints them.
.PHONY: manual
manual: ## write the manual page and the completions into bin/manual
	mkdir -p $(BIN)/manual
	$(GO) build -o $(BIN)/manual/ ./cmd/multidb
	cd $(BIN)/manual && ./multidb man > multidb.1 && \
		for s in bash zsh fish; do ./multidb completion $$s > multidb.$$s; done
	if command -v mandoc > /dev/null; then mandoc -T lint -W warning $(BIN)/manual/multidb.1; fi

CONTAINER ?= docker
IMAGE_ARCH ?= $(shell $(GO) env GOARCH)

.PHONY: image
image: ## build the container image "multidb" of this commit for IMAGE_ARCH; CONTAINER=podman works too
	CGO_ENABLED=0 GOOS=linux GOARCH=$(IMAGE_ARCH) $(GO) build -trimpath -ldflags '-s -w' \
		-o $(BIN)/image/linux/$(IMAGE_ARCH)/multidb ./cmd/multidb
	$(CONTAINER) build --platform linux/$(IMAGE_ARCH) --build-arg TARGETPLATFORM=linux/$(IMAGE_ARCH) \
		-t multidb -f Dockerfile $(BIN)/image

.PHONY: snapshot
snapshot: $(GORELEASER) ## build what a release of this commit would have into dist/, without images
	$(GORELEASER) check
	$(GORELEASER) release --snapshot --clean --skip=docker

.PHONY: release
release: $(GORELEASER) ## make a draft release of the tag checked out; only the workflow does this
	@git describe --tags --exact-match --match 'v[0-9]*'
	sed -n '/^## \['"$$(git describe --tags --exact-match | sed 's/^v//; s/[.]/[.]/g')"'\] - 2/,/^## \[/{/^## \[/d;/^\[.*\]: /d;p;}' CHANGELOG.md > $(BIN)/notes.md
	@grep -q . $(BIN)/notes.md || { echo 'CHANGELOG.md has no section with a date for this tag: see docs/RELEASING.md' >&2; exit 1; }
	$(GORELEASER) release --clean --release-notes $(BIN)/notes.md $(if $(IMAGE),,--skip=docker)

.PHONY: weight
weight: ## link programs, and look at what of the AWS SDK is in them
	$(GO) test -count=1 -tags links -run 'Links' .

.PHONY: interop
interop: $(VERSITYGW) $(LITESTREAM) ## test against versitygw, the stock litestream CLI and sqlite3
	@command -v sqlite3 > /dev/null || { echo 'make interop needs the sqlite3 command: apt-get install sqlite3' >&2; exit 1; }
	$(PROGRAMS) $(GO) -C test test -count=1 -tags interop ./interop/...
	$(GO) test -count=1 -tags sqlite3cli -run InOtherProcesses ./internal/ship
	@set -e; \
	export VERSITYGW=$(VERSITYGW) VERSITYGW_DIR=$(BIN)/versitygw-test VERSITYGW_KEEP_KEYS=1; \
	export AWS_ACCESS_KEY_ID=multidb AWS_SECRET_ACCESS_KEY=multidb-secret; \
	trap 'examples/with_s3/setup_versitygw.sh clean' EXIT; \
	exports=$$(examples/with_s3/setup_versitygw.sh start -b backups); eval "$$exports"; \
	MULTIDB_TEST_S3_ENDPOINT=$$LITESTREAM_S3_ENDPOINT \
		$(GO) test -count=1 -tags versitygw -run Versitygw ./internal/store/s3; \
	MULTIDB_TEST_S3_ENDPOINT=$$LITESTREAM_S3_ENDPOINT \
		$(GO) test -count=1 -tags versitygw -run '(WhoMayWrite|ThereAndBackOver)/^versitygw$$' .

.PHONY: browser
browser: ## look at the page of multidbhttp with Chromium; pictures into MULTIDB_SCREENSHOTS, if set
	@command -v chromium > /dev/null || { echo 'make browser needs chromium: apt-get install chromium' >&2; exit 1; }
	$(GO) -C test test -count=1 -timeout 9m -tags browser ./browser

# Each test for TORTURE_TIME, from TORTURE_SEED on (random if empty). A failure
# prints how to replay it, the end of a run the seed to go on from.
TORTURE_TIME ?= 20m
TORTURE_SEED ?=

.PHONY: torture
torture: $(VERSITYGW) $(LITESTREAM) ## try for TORTURE_TIME per test to make it lose something
	$(PROGRAMS) MULTIDB_TORTURE_TIME=$(TORTURE_TIME) MULTIDB_TORTURE_SEED=$(TORTURE_SEED) \
		$(GO) -C test test -count=1 -parallel 5 -timeout 0 -v ./torture

.PHONY: ci
ci: ## everything that CI runs, in its order
	bash .ci/run

.PHONY: clean
clean: ## remove what the targets above made
	rm -rf $(BIN) dist cover.out
