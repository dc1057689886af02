# rdpbroker: `make run` shows it at work, `make test` proves it.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# A static binary: it runs on any Linux of the last ten years.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: help build run test check peers race cross soak-brief take-over package release bench storm soak soak-scale abuse fuzz clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

build: ## bin/rdpbroker, and the logon probe bin/rdpprobe
	$(BUILD) -o bin/rdpbroker ./broker/cmd/rdpbroker
	$(BUILD) -o bin/rdpprobe ./broker/cmd/rdpprobe

run: build ## the demo farm: two simulated hosts and the broker in front
	bin/rdpbroker demo $(ARGS)

test: peers check cross race soak-brief package ## everything, against real peers; installs them where it can

check: ## the quick part: format, vet, unit tests
	@out=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) test -short -parallel 4 ./... # most of them wait

race: ## all tests under the race detector
	$(GO) test -race -timeout 14m ./...

STEPS ?= 1000000
SEED  ?= 1
SOAK  := $(GO) test -count=1 -timeout 180m -v -run TestNobodyIsWronged ./broker/soak -seed $(SEED)
soak: ## offices that work for days, STEPS of them from SEED (0: any), and nobody is wronged
	$(SOAK) -steps $(STEPS)

soak-brief: ## the same in 100,000 steps, as `make test` does it
	$(SOAK) -steps 100000

CONNECTIONS ?= 50000
abuse: ## CONNECTIONS of strangers, under names and with tokens that are not theirs: nobody is logged off for them
	$(GO) test -count=1 -timeout 30m -v ./broker/abuse -connections $(CONNECTIONS)

SCALE ?= -scale-hosts 1000 -scale-sessions 50 -scale-changes 50 -scale-for 60s -scale-off 50
soak-scale: ## what one broker needs to watch a large farm; about two minutes
	$(GO) test -count=1 -timeout 15m -v -run TestScale ./broker/soak $(SCALE)

bench: build ## beside HAProxy and a direct connection; a quarter of an hour, or BENCH_QUICK=1
	@deploy/install-test-peers.sh haproxy
	$(GO) build -o bin/rdpbench ./broker/cmd/rdpbench
	bin/rdpbench -json bin/bench.json $(if $(BENCH_QUICK),,-markdown docs/benchmarks.md)

STORM ?= -storm-hosts 100 -storm-logons 5000 -storm-for 60s
storm: ## a morning: 5,000 logons in a minute onto 100 hosts that are half full of yesterday's sessions
	$(GO) test -count=1 -timeout 15m -v -run TestStorm ./broker/soak $(STORM)

peers:
	@deploy/install-test-peers.sh

cross: ## the other platforms still build
	GOOS=linux GOARCH=arm64 $(BUILD) -o /dev/null ./broker/cmd/rdpbroker
	GOOS=windows GOARCH=amd64 $(BUILD) -o /dev/null ./broker/cmd/rdpbroker

CROWD ?= 5000
take-over: ## a second program goes on with CROWD connections of the first; every byte is checked
	CROWD=$(CROWD) $(GO) test -count=1 -timeout 10m -v -run 'TestTakeOver$$' ./broker/e2e

package: ## a release is two equal builds; the .deb is installed, started and removed
	cd deploy/release && $(GO) vet . && $(GO) test -count=1 -timeout 14m .

release: ## all that is published, in dist/: archives, packages, SBOMs, checksums
	cd deploy/release && $(GO) run . -root ../.. -out ../../dist

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

clean:
	rm -rf bin dist
