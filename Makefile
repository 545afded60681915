# Commands for people and for CI; `make help` lists them. What takes root says so
# before it does anything, and prints the command to run.

CARGO ?= cargo
# Passed to test programs: make e2e ARGS='policy'
ARGS ?=
WEAKEN = RUSTFLAGS="$$RUSTFLAGS --cfg bypass_weaken"
WEAKENED = "$${CARGO_TARGET_DIR:-target}/weakened"
# Where `make install` puts things
PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd/user
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
PROGRAM ?= $${CARGO_TARGET_DIR:-target}/release/bypass-cli
NAMES = bypass4netns bypass4netnsd
DIST = $${CARGO_TARGET_DIR:-target}/dist
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
UNITS = bypass4netnsd.service bypass4netnsd.socket
# How many times as long as in CI: make soak SOAK=100
SOAK ?= 20
# Where random sequences of calls begin, how many there are: make parity SEED=7 RUNS=100000
SEED ?=
# make fuzz TARGET=engine RUNS=10000000, or TIME=60 for seconds; without, all and 4 seconds
TARGET ?=
export RUNS TIME SANITIZE SEED COMPARE

.PHONY: help book build install install-built uninstall demo test fmt lint unit kernel e2e programs stacks attack weakened parity openapi soak fuzz miri bench bench-targets setup-book setup-build setup-demo setup-bench setup-fuzz setup-test setup-parity setup-programs setup-stacks setup-release release-build deb deb-test reproducible packages deny msrv aarch64 release-check clean

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

build: setup-build ## Build the release binary
	$(CARGO) build --release --package bypass-cli

install: build install-built ## Install the program, its names, man pages, completions and units: PREFIX=/usr/local DESTDIR=

# For packages, which build by themselves
install-built:
	install -D --mode=755 "$(PROGRAM)" "$(DESTDIR)$(BINDIR)/bypass-cli"
	for name in $(NAMES); do ln -sfn bypass-cli "$(DESTDIR)$(BINDIR)/$$name"; done
	install --directory "$(DESTDIR)$(UNITDIR)"
	for unit in $(UNITS); do \
	    sed 's|@BINDIR@|$(BINDIR)|' packaging/systemd/$$unit > "$(DESTDIR)$(UNITDIR)/$$unit"; \
	    chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit"; \
	done
	generated=$$(mktemp --directory); trap 'rm -rf "$$generated"' EXIT; set -e; \
	export SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2> /dev/null)}"; \
	"$(PROGRAM)" generate "$$generated"; \
	for place in man1:$(MANDIR)/man1 bash:$(BASHDIR) zsh:$(ZSHDIR) fish:$(FISHDIR); do \
	    install --directory "$(DESTDIR)$${place#*:}"; \
	    install --mode=644 --target-directory="$(DESTDIR)$${place#*:}" "$$generated/$${place%%:*}"/*; \
	done

uninstall: ## Remove what `make install` installed, with the same PREFIX and DESTDIR
	rm -f "$(DESTDIR)$(BINDIR)/bypass-cli"
	for name in $(NAMES); do \
	    ! [ "$$(readlink "$(DESTDIR)$(BINDIR)/$$name")" = bypass-cli ] || rm -f "$(DESTDIR)$(BINDIR)/$$name"; \
	done
	for unit in $(UNITS); do rm -f "$(DESTDIR)$(UNITDIR)/$$unit"; done
	rm -f "$(DESTDIR)$(MANDIR)"/man1/bypass-cli-*.1
	for name in bypass-cli $(NAMES); do \
	    rm -f "$(DESTDIR)$(MANDIR)/man1/$$name.1" "$(DESTDIR)$(BASHDIR)/$$name" \
	        "$(DESTDIR)$(ZSHDIR)/_$$name" "$(DESTDIR)$(FISHDIR)/$$name.fish"; \
	done

demo: setup-demo ## Compare throughput and connects with the host, slirp4netns and pasta
	scripts/demo

test: setup-test ## Everything that CI checks, with one summary at the end
	scripts/test

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Formatting, clippy and rustdoc, without warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --test e2e --test programs --test stacks -- -D warnings
	$(WEAKEN) $(CARGO) clippy --package bypass-cli --target-dir $(WEAKENED) -- -D warnings
	$(CARGO) clippy --package bypass-fuzz --features targets --bins -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items

unit: ## Tests that need no kernel feature and no privilege
	$(CARGO) test --workspace --lib --bins -- $(ARGS)
	$(CARGO) test --workspace --doc -- $(ARGS)

kernel: ## Tests with real system calls, in namespaces of their own; no privilege
	BYPASS_REQUIRE=kernel $(CARGO) test --workspace --test kernel -- $(ARGS)

e2e: setup-test ## The real program between real namespaces, peers and runtimes
	$(CARGO) build --workspace --bins
	scripts/go-clients
	BYPASS_REQUIRE=e2e $(CARGO) test --workspace --test e2e -- $(ARGS)

programs: setup-programs ## Programs that people run, in containers, and all of them at once; about 8 minutes
	$(CARGO) build --workspace --bins
	BYPASS_REQUIRE=e2e $(CARGO) test --package test-support --test programs -- $(ARGS)

stacks: setup-stacks ## Container engines as they are packaged, each with the same scenarios
	$(CARGO) build --workspace --bins
	scripts/nerdctl
	BYPASS_REQUIRE=e2e $(CARGO) test --package test-support --test stacks -- $(ARGS)

attack: setup-test weakened ## Attacks on confinement, and which layer stops each of them; ARGS='NAME...' for some
	$(CARGO) build --workspace --bins
	$(CARGO) run --quiet --package test-support --bin attack -- $(ARGS)

# For the attacks only: a build in which layers can be switched off, beside the others.
weakened:
	$(WEAKEN) $(CARGO) build --package bypass-cli --target-dir $(WEAKENED)

parity: setup-parity ## Programs run natively and under run, and compared: random calls, other people's tests
	$(CARGO) build --workspace --bins
	scripts/parity-suites $${CARGO_TARGET_DIR:-target}/parity
	$(CARGO) run --quiet --package test-support --bin parity -- $(ARGS)

openapi: setup-test ## Hold docs/openapi.yaml against the daemon, with requests that schemathesis makes up
	$(CARGO) build --workspace --bins
	scripts/openapi

soak: setup-programs ## Tests for leaks, 20 times as long as in CI, about 20 minutes, and as long with all programs; SOAK=N
	$(CARGO) build --workspace --bins
	BYPASS_REQUIRE=e2e BYPASS_SOAK=$(SOAK) $(CARGO) test --workspace --test e2e -- leave_nothing
	BYPASS_REQUIRE=e2e BYPASS_SOAK=$(SOAK) $(CARGO) test --package test-support --test programs -- soak

fuzz: setup-fuzz ## Hostile input, made up by libFuzzer: TARGET=engine RUNS=10000000 (all, a few seconds each)
	scripts/fuzz $(TARGET)

book: setup-book ## Build docs/ as a book into target/book, and check every link in it
	scripts/book

miri: ## The tests of what is pure, under Miri; takes a nightly toolchain with Miri
	scripts/miri

bench: setup-bench ## The benchmark report in docs/benchmarks, about 15 minutes; ARGS=--quick, COMPARE=old.json
	scripts/bench $(ARGS)

# The quick version is plain `cargo bench`: this, after preparing the machine.
bench-targets: setup-bench ## Micro-benchmarks, and a comparison with other stacks and with the targets
	$(CARGO) bench --package bypass-benches

release-build: setup-build ## The program as it is released, the same bytes wherever it is built
	scripts/release-build $(DIST)

deb: release-build ## A Debian package of what `make install` installs
	scripts/deb $(DIST)/release/bypass-cli $(DIST)/deb

deb-test: deb ## Install the package on a clean Debian made for it, use it there as an ordinary user, remove it
	scripts/deb-test $(DIST)/deb/*.deb

reproducible: deb ## Build program and package once more, in another place, and compare the bytes
	scripts/reproducible $(DIST)/release/bypass-cli $(DIST)/deb/*.deb

packages: ## Package every crate as for crates.io, and build each from its package
	scripts/packages

deny: ## Licences, origins and known faults of dependencies (cargo-deny)
	scripts/deny

msrv: ## Compile everything with the oldest Rust that is promised
	scripts/release-check rust-$(MSRV)

aarch64: ## Type-check for 64-bit ARM
	scripts/release-check aarch64

release-check: setup-release ## All of these, and a table; about 8 minutes
	scripts/release-check

setup-book setup-build setup-demo setup-bench setup-fuzz setup-test setup-parity setup-programs setup-stacks setup-release: setup-%:
	@scripts/setup $*

clean: ## Remove what was built
	$(CARGO) clean
