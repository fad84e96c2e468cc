# poold: what a contributor or a packager runs. `make help` lists it.

CARGO ?= cargo
# The machine's own stable choice, so that nothing is fetched behind the user's back when it is all there.
CARGOFLAGS ?= --locked

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: run
run: ## installs what is missing, builds, shows the main job on a private bus; KEEP=1 keeps the bus up
	@scripts/setup.sh run
	$(CARGO) build $(CARGOFLAGS) --bins
	@exec env KEEP=$(KEEP) scripts/as-root.sh scripts/private-bus.sh -- scripts/demo.sh

.PHONY: test test-unit test-bus test-host
test: test-unit test-bus test-host ## the unit, bus and host tiers

test-unit: ## beside the code: no bus, no root
	@scripts/setup.sh unit
	$(CARGO) test $(CARGOFLAGS) --lib --test cli
	$(CARGO) test $(CARGOFLAGS) --test corpus -- --nocapture

test-bus: ## the built poold on a private bus with the real polkitd
	@scripts/setup.sh bus
	$(CARGO) test $(CARGOFLAGS) --no-run --test bus
	scripts/as-root.sh $(CARGO) test $(CARGOFLAGS) --test bus -- --nocapture

test-host: ## what `make install` installs, in a Debian with real systemd
	@scripts/setup.sh host
	$(CARGO) test $(CARGOFLAGS) --no-run --lib --test cli # and with it the programs, as for the tiers before
	@scripts/as-root.sh env POOLD_UNIT_TESTS="$$($(CARGO) test $(CARGOFLAGS) --no-run --lib 2>&1 | \
		sed -n 's/^ *Executable .*(\(.*\))$$/\1/p')" tests/host/run.sh

.PHONY: guest-programs test-vm test-vm-zfs test-matrix
guest-programs:
	@scripts/setup.sh build
	$(CARGO) build $(CARGOFLAGS) --profile guest --bins

test-vm: guest-programs ## what `make install` installs, in a machine of its own with disks; STEPS="NAME..." for some only, QUICK=1 without the long ones
	@scripts/setup.sh guest
	@scripts/as-root.sh tests/guest/run.sh $(if $(QUICK),--quick) $(STEPS)

test-vm-zfs: ## builds what test-vm needs for ZFS, once (four minutes)
	@scripts/setup.sh guest
	@scripts/as-root.sh tests/guest/zfs.sh

test-matrix: guest-programs ## dead servers: each type, fault and moment of docs/dead-servers.md; CELLS="rbd.frozen" for some of the bus tier's only
	@scripts/setup.sh bus guest
	$(CARGO) test $(CARGOFLAGS) --no-run --test bus
	scripts/as-root.sh env POOLD_MATRIX="$(or $(CELLS),all)" $(CARGO) test $(CARGOFLAGS) --test bus -- --nocapture matrix::
	$(if $(CELLS),,@scripts/as-root.sh tests/guest/run.sh matrix_nfs matrix_cifs matrix_iscsi matrix_boot)

.PHONY: build
build: ## release programs, for install
	$(CARGO) build $(CARGOFLAGS) --release --bins

.PHONY: bench
bench: build ## times and memory at 1k to 100k volumes, latency beside a dead pool, transfers of 2 GiB; beside the peers
	@scripts/setup.sh bench
	$(CARGO) bench $(CARGOFLAGS)

.PHONY: fuzz fuzz-check
fuzz: ## every fuzz target for five minutes (FUZZ_SECONDS=300), and the edges it reached
	@scripts/setup.sh fuzz
	scripts/fuzz.sh

fuzz-check: ## that a bug which is planted is found within a minute
	@scripts/setup.sh fuzz
	scripts/fuzz.sh --check

.PHONY: lint
lint: ## fmt, clippy, rustdoc, shellcheck, interface documents
	@scripts/setup.sh lint
	scripts/lint.sh

.PHONY: doc
doc: ## the library's documentation, in target/doc
	$(CARGO) doc $(CARGOFLAGS) --no-deps

.PHONY: clean
clean: ## removes what was built
	$(CARGO) clean

include Makefile.install
