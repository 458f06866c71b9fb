# Everything here is a short way to type a script or a cargo command.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)

bindir  = $(DESTDIR)$(PREFIX)/bin
mandir  = $(DESTDIR)$(PREFIX)/share/man/man1
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: help build demo test lint soak bench install install-firecracker uninstall clean

help:
	@echo 'make demo     install what is missing, build, boot a Debian machine and a task, remove them'
	@echo 'make test     every test: unit, integration, and end to end with real boots'
	@echo 'make lint     rustfmt, clippy, the layers rule, shellcheck'
	@echo 'make soak     200 cycles of VMs in a CNI network, as root; nothing may remain'
	@echo 'make bench    measure against the budgets'
	@echo 'make build    build the release programs into target/release'
	@echo 'make install-firecracker  fetch Firecracker for this user: a pinned release, verified'
	@echo 'make install  install programs, completions and manual pages below PREFIX ($(PREFIX))'

demo:
	@scripts/demo

test:
	@scripts/test

lint:
	@scripts/lint

# 200 cycles of start, stop, kill and crash in a CNI network, as root: minutes. IGNITE_SOAK_CYCLES says how many.
soak:
	@IGNITE_SOAK_CYCLES=$${IGNITE_SOAK_CYCLES:-200} cargo test -p ignite-e2e --test e2e -- network_soak --nocapture

bench:
	@scripts/bench

# A pinned release of its project's, verified, into the data directory; nothing else ever fetches it.
install-firecracker:
	@test -x target/release/ignite || { echo 'type `make build` first'; exit 1; }
	@target/release/ignite doctor --fix

build:
	$(CARGO) build --release --locked -p ignite -p ignited

# Depends on nothing, so that `sudo make install` after `make build` compiles nothing as root.
install:
	@test -x target/release/ignite || { echo 'type `make build` first'; exit 1; }
	install -D -m 755 target/release/ignite $(bindir)/ignite
	install -D -m 755 target/release/ignite-spawn $(bindir)/ignite-spawn
	install -D -m 755 target/release/ignited $(bindir)/ignited
	install -d $(bashdir) $(zshdir) $(fishdir) $(mandir)
	target/release/ignite manual $(mandir)
	target/release/ignite completion bash > $(bashdir)/ignite
	target/release/ignite completion zsh > $(zshdir)/_ignite
	target/release/ignite completion fish > $(fishdir)/ignite.fish
	target/release/ignited completion bash > $(bashdir)/ignited
	target/release/ignited completion zsh > $(zshdir)/_ignited
	target/release/ignited completion fish > $(fishdir)/ignited.fish

uninstall:
	rm -f $(bindir)/ignite $(bindir)/ignite-spawn $(bindir)/ignited $(bashdir)/ignite $(zshdir)/_ignite $(fishdir)/ignite.fish
	rm -f $(bashdir)/ignited $(zshdir)/_ignited $(fishdir)/ignited.fish
	rm -f $(mandir)/ignite.1 $(mandir)/ignite-*.1

clean:
	rm -rf target .cache
