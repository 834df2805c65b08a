# Everything a developer does. "make" alone lists it. Needs Go; the race detector also
# needs a C compiler, and without one the tests run without it and say so.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# Packages want a number first: v1.2.3 is 1.2.3, anything else is before 0.0.1.
PACKAGE_VERSION = $(patsubst v%,%,$(if $(filter v0% v1% v2% v3% v4% v5% v6% v7% v8% v9%,$(VERSION)),$(VERSION),v0.0.0-git.$(VERSION)))
# The date of everything in packages and images: that of the source.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
LDFLAGS := -s -w -X main.version=$(VERSION)
SEEDS ?= 25
# Of the chaos harness.
NODES ?= 3
# How the servers of the harness keep their log: bolt or wal.
LOG_STORE ?= bolt
HOURS ?= 1
WORKLOAD ?= both
# Two packages at a time: the cluster's tests start real servers and time real elections.
TEST_FLAGS := -timeout 20m -p 2
# What takes longest begins first.
TEST_FIRST := ./cmd/seatkeeper ./cluster ./bench ./jepsen/checker
# Whose tests try a part of what they can in make test: make stories tries all of it, without
# the race detector, which makes their loops eight times as long and has one goroutine to watch.
SHORTENED := ./cluster ./cluster/sim ./fsm ./fsm/explore ./jepsen/checker ./lease ./rpc
TOOLS := bin/tools
# What so many calls carry that their encoding has generated code.
HOT_PROTO := rpc/proto/seatkeeper/v1/seats.proto
GO_FILES = $(shell git ls-files -co --exclude-standard -- '*.go')
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
# 0 for root, who can do what asks for another root folder.
ROOT := $(filter 0,$(shell id -u))
# -race needs cgo and a C compiler.
HAVE_CC := $(shell command -v gcc >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 && echo yes)
# Each process of the program makes go-runewidth's tables before anything else, which takes
# a quarter of a second with the race detector and is done by one goroutine.
RACE := $(if $(HAVE_CC),-race -gcflags=github.com/mattn/go-runewidth=-race=false,)
# How long a process that was built with the race detector lives on when it is done; else it is
# a second, and the tests start hundreds.
RACE_ENDS := GORACE="atexit_sleep_ms=50 $${GORACE:-}"

.PHONY: help
help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/seatkeeper
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/seatkeeper ./cmd/seatkeeper

.PHONY: demo
demo: build ## run the story against three server processes: kill the leader, lose nothing
	@bin/seatkeeper demo

.PHONY: dev
dev: build ## keep a three-node cluster running on this machine
	@bin/seatkeeper dev

.PHONY: test
test: ## run the tests of every package, with the race detector where there is a C compiler (five minutes)
	@$(if $(HAVE_CC),,echo 'no C compiler found: running the tests WITHOUT the race detector';) \
	$(RACE_ENDS) $(if $(HAVE_CC),CGO_ENABLED=1,CGO_ENABLED=0) go test -short -vet=off $(RACE) $(TEST_FLAGS) $(TEST_FIRST) ./...

.PHONY: stories
stories: ## run the long stories on real processes too, those in a browser among them, and in full what make test tries a part of (ten minutes)
	@go test -vet=off $(TEST_FLAGS) $(SHORTENED)
	@$(RACE_ENDS) $(if $(HAVE_CC),CGO_ENABLED=1,CGO_ENABLED=0) go test -vet=off $(RACE) $(TEST_FLAGS) ./cmd/seatkeeper

.PHONY: sim
sim: ## simulate the cluster on virtual time, SEEDS=n seeds; of three worlds one has policies, queue, bookings, borrowing
	@go test ./cluster/sim -count=1 -timeout 60m -run TestInvariantsHoldUnderFaults -seeds $(SEEDS) -length 10m

.PHONY: sim-long
sim-long: ## simulate 1,000 seeds of one virtual hour; what fails is kept in bin/trails
	@GOGC=300 go test ./cluster/sim -count=1 -timeout 120m -v -run TestInvariantsHoldUnderFaults -seeds 1000 -length 1h -trails $(CURDIR)/bin/trails

.PHONY: sim-ruled
sim-ruled: ## simulate 240 seeds of 20 virtual minutes, two worlds of three with rules
	@go test ./cluster/sim -count=1 -timeout 60m -v -run TestInvariantsHoldUnderFaults -ruled -seed 2040 -seeds 240 -length 20m -trails $(CURDIR)/bin/trails

.PHONY: crash-points
crash-points: ## lose power in each log, stable and snapshot write of a scripted run, 3,000 points
	@go test ./cluster/sim -count=1 -timeout 60m -v -run TestNoCrashPointLosesAnything -points 3150 -trails $(CURDIR)/bin/trails

.PHONY: explore
explore: ## all interleavings of a few clients over the real state machine
	@go test ./fsm/explore -count=1 -timeout 60m -v -full

.PHONY: model
model: ## search all states of the protocol's model, and of each broken variant (needs spin)
	@lease/model/check.sh

.PHONY: guards
guards: ## take each guard of the promises away in turn: some test must turn red
	@go test -tags mutants -count=1 -timeout 60m -run 'Guard|GoesWrong' ./lease ./fsm/explore ./cluster/sim

# What depends on the log's version, and what holds it together, in the build that tests upgrade to.
NEXT_TESTS := Version|Upgrade|Kind|Released|Fixture|Snapshot|Backup|Restore|Log

.PHONY: next
next: ## vet the build that upgrades are tested with (tag nextversion), and run its tests of versions and formats
	@go vet -tags nextversion ./fsm/... ./cluster ./rpc ./cmd/seatkeeper
	@go test -tags nextversion -count=1 -timeout 8m -run '$(NEXT_TESTS)' ./fsm ./cluster ./rpc

.PHONY: jepsen-build
jepsen-build: build
	@CGO_ENABLED=0 go build -trimpath -o bin/jepsen-harness ./jepsen/cmd/jepsen

.PHONY: jepsen
jepsen: jepsen-build ## break a real cluster with one fault of each family (root), FAULTS=a,b and WORKLOAD=plain|rules|both choose
	@bin/jepsen-harness run -workload $(WORKLOAD) -nodes $(NODES) -log-store $(LOG_STORE) $(if $(SEED),-seed $(SEED)) $(if $(FAULTS),-faults $(FAULTS))

# About two minutes: a fault of each kind of trouble, long enough for each pool to be judged.
SHORT := kill,partition-leader,pause,power-one-torn,power-all,full-disk,clock-jump,membership,delay,loss,client-cut,half-open

.PHONY: jepsen-short
jepsen-short: jepsen-build ## the harness with a few faults, where it can run (root); else says why not
	@short() { bin/jepsen-harness run -nodes $(NODES) -rate 12 $(if $(SEED),-seed $(SEED)) -faults $(SHORT); }; \
	if bin/jepsen-harness can; then short || { [ $$? -eq 2 ] && echo 'not conclusive: once more' && short; } || { [ $$? -eq 2 ] && echo 'not conclusive: a last time' && short; }; \
	else echo 'THE HARNESS WAS NOT RUN'; fi

.PHONY: jepsen-long
jepsen-long: jepsen-build ## mix faults for HOURS=n on NODES=n with SEED=s (root)
	@bin/jepsen-harness long -workload $(WORKLOAD) -nodes $(NODES) -log-store $(LOG_STORE) -hours $(HOURS) $(if $(SEED),-seed $(SEED)) $(if $(FAULTS),-faults $(FAULTS))

.PHONY: jepsen-mutants
jepsen-mutants: jepsen-build ## each sown bug must turn its checker red (root), MUTANTS=a,b chooses
	@CGO_ENABLED=0 go build -trimpath -tags mutants -o bin/seatkeeper-mutants ./cmd/seatkeeper
	@bin/jepsen-harness mutants -binary bin/seatkeeper-mutants $(if $(SEED),-seed $(SEED)) $(if $(MUTANTS),-mutants $(MUTANTS))

.PHONY: jepsen-replay
jepsen-replay: jepsen-build ## judge a stored run again, RUN=folder
	@bin/jepsen-harness replay $(RUN)

.PHONY: jepsen-clean
jepsen-clean: jepsen-build ## take away what a crashed run left on this machine (root)
	@bin/jepsen-harness clean

.PHONY: peers-build
peers-build:
	@cd jepsen/peers && CGO_ENABLED=0 go build -trimpath -o $(CURDIR)/bin/peers .

.PHONY: bench
bench: build peers-build ## measure beside etcd and Redis in turn, write BENCHMARKS.md; QUICK=1 only tries it (needs redis-server)
	@command -v redis-server >/dev/null || { echo 'redis-server is missing: apt-get install redis-server' >&2; exit 1; }
	@bin/peers compare -seatkeeper bin/seatkeeper -keep bin/bench.json \
	  $(if $(QUICK),-quick -out bin/bench-quick.md -plots bin/bench-quick,-out BENCHMARKS.md -plots docs/bench)

.PHONY: packages
packages: build $(TOOLS)/nfpm ## Debian and RPM packages for amd64 and arm64 in bin/packages
	@rm -rf bin/packages && mkdir -p bin/packages/completion
	@bin/seatkeeper completion bash > bin/packages/completion/seatkeeper.bash
	@bin/seatkeeper completion zsh > bin/packages/completion/_seatkeeper
	@bin/seatkeeper completion fish > bin/packages/completion/seatkeeper.fish
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) bin/seatkeeper man bin/packages/man && gzip -n9 bin/packages/man/*.1
	@for arch in amd64 arm64; do \
	  mkdir -p bin/packages/$$arch && \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/packages/$$arch/seatkeeper ./cmd/seatkeeper && \
	  for kind in deb rpm; do \
	    SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) ARCH=$$arch VERSION=$(PACKAGE_VERSION) $(TOOLS)/nfpm package --config deploy/nfpm.yaml --packager $$kind --target bin/packages || exit 1; \
	  done || exit 1; \
	done

.PHONY: packages-check
packages-check: packages ## make the packages twice: they must be the same byte for byte, and hold what they should
	@cd bin/packages && sha256sum *.deb *.rpm > ../packages.sha256
	@$(MAKE) --no-print-directory packages >/dev/null
	@cd bin/packages && sha256sum --quiet -c ../packages.sha256 && echo "packages are the same each time"
	@go test -count=1 -run 'TestPackagesHold' ./deploy

.PHONY: cleanroot
cleanroot: $(ROOT:0=bin/cleanroot.tar) ## make a Debian with nothing in it, for the two below (root: debootstrap)

.PHONY: install-check
install-check: packages cleanroot ## install, upgrade, remove and purge the packages on a clean Debian (root: debootstrap)
	@$(if $(ROOT),,echo 'not root: the packages were NOT installed';) \
	SEATKEEPER_CLEAN_ROOT=$(ROOT:0=$(CURDIR)/bin/cleanroot.tar) go test -count=1 -timeout 10m -v -run 'Package' ./deploy

.PHONY: drill
drill: packages cleanroot ## work through the runbook on machines with the Debian package, under clients (root: debootstrap)
	@deploy/drill.sh bin/packages/seatkeeper_*_$$(dpkg --print-architecture).deb

bin/cleanroot.tar: deploy/cleanroot.sh
	@deploy/cleanroot.sh make $@

.PHONY: chart
chart: image ## check chart and compose file by their tools' own code, follow their pages with the image (root)
	@cd tools/chart && go vet . && go test -count=1 .

.PHONY: image-check
image-check: ## build the image twice, and run it in an otherwise empty root (root)
	@cd tools/image && go vet . && go test -count=1 .

.PHONY: image
image: $(TOOLS)/image ## container images for amd64 and arm64 in bin/image, for docker load; needs no Docker
	@rm -rf bin/image && mkdir -p bin/image
	@for arch in amd64 arm64; do \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/image/seatkeeper-$$arch ./cmd/seatkeeper && \
	  $(TOOLS)/image -binary bin/image/seatkeeper-$$arch -arch $$arch -version $(VERSION) -out bin/image/seatkeeper-$(VERSION)-linux-$$arch.tar || exit 1; \
	done

.PHONY: check
check: fmt vet staticcheck gen-check cross arrows guards test ## all checks: format, vet, staticcheck, generated code, platforms, arrows, race, short simulation

.PHONY: fmt
fmt: ## check the format of all Go files
	@bad=$$(gofmt -l $(GO_FILES)); if [ -n "$$bad" ]; then echo "not formatted (run gofmt -w): $$bad" >&2; exit 1; fi

.PHONY: vet
vet: ## run go vet
	@go vet ./...

.PHONY: staticcheck
staticcheck: $(TOOLS)/staticcheck ## run staticcheck
	@$(TOOLS)/staticcheck ./...

.PHONY: arrows
arrows: ## check which package may import which, and the pinned versions
	@go test -count=1 .

.PHONY: gen
gen: $(TOOLS)/buf $(TOOLS)/protogen ## generate Go code from the .proto files
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate rpc/proto --template rpc/proto/buf.gen.yaml
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate rpc/proto --template rpc/proto/buf.gen.hot.yaml --path $(HOT_PROTO)
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate fsm/proto --template fsm/proto/buf.gen.yaml

.PHONY: gen-check
gen-check: $(TOOLS)/buf $(TOOLS)/protogen ## check that the generated code is that of the .proto files
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" buf lint
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate rpc/proto --template rpc/proto/buf.gen.yaml -o "$$tmp" && \
	PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate rpc/proto --template rpc/proto/buf.gen.hot.yaml --path $(HOT_PROTO) -o "$$tmp" && \
	PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate fsm/proto --template fsm/proto/buf.gen.yaml -o "$$tmp" && \
	for f in $$(cd "$$tmp" && find . -name '*.go'); do \
	  cmp -s "$$tmp/$$f" "$$f" || { echo "$$f is not what its .proto says: run make gen" >&2; exit 1; }; \
	done && \
	for f in $$(find rpc/proto fsm/proto -name '*.pb*.go'); do \
	  [ -f "$$tmp/$$f" ] || { echo "$$f comes from no .proto file: remove it" >&2; exit 1; }; \
	done

.PHONY: cross
cross: ## build binary and SDK for every platform
	@for p in $(PLATFORMS); do \
	  echo "build $$p"; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -o /dev/null ./cmd/seatkeeper; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build ./rpc/client; \
	done

.PHONY: clean
clean: ## remove what was built
	@rm -rf bin

# Tools are built from tools/*/go.mod, whose versions are pinned apart from ours.
$(TOOLS)/buf: tools/buf/go.mod tools/buf/go.sum
	@mkdir -p $(TOOLS)
	@cd tools/buf && CGO_ENABLED=0 go build -o $(CURDIR)/$@ github.com/bufbuild/buf/cmd/buf

$(TOOLS)/nfpm: tools/nfpm/go.mod tools/nfpm/go.sum
	@mkdir -p $(@D)
	@cd tools/nfpm && CGO_ENABLED=0 go build -o $(CURDIR)/$@ github.com/goreleaser/nfpm/v2/cmd/nfpm

$(TOOLS)/image: tools/image/go.mod tools/image/go.sum tools/image/main.go
	@mkdir -p $(@D)
	@cd tools/image && CGO_ENABLED=0 go build -o $(CURDIR)/$@ .

$(TOOLS)/staticcheck: tools/staticcheck/go.mod tools/staticcheck/go.sum
	@mkdir -p $(TOOLS)
	@cd tools/staticcheck && CGO_ENABLED=0 go build -o $(CURDIR)/$@ honnef.co/go/tools/cmd/staticcheck

$(TOOLS)/protogen: tools/protogen/go.mod tools/protogen/go.sum
	@mkdir -p $(TOOLS)
	@cd tools/protogen && CGO_ENABLED=0 go build -o $(CURDIR)/$(TOOLS)/ \
	  google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc \
	  github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway \
	  github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto
	@touch $@
