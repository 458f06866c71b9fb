# Root file systems from Debian packages; sourced by recipes.

suite=bookworm

# write_sources FILE: the Debian archives this host's apt is configured for, as one-line sources.
write_sources() {
    list_sources >"$1"
    if [ ! -s "$1" ]; then
        apt-get -o DPkg::Lock::Timeout=300 update -qq || true
        list_sources >"$1"
    fi
}

list_sources() {
    # shellcheck disable=SC2016  # the $(...) are apt's, not the shell's
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        grep -E " $suite(-security|-updates)? " | sort -u
}

# bootstrap SCRATCH TAR OPTION...: mmdebstrap without documentation, from this host's archives where they hold the suite.
bootstrap() {
    local scratch=$1 tar=$2 exclude=() sources=()
    shift 2
    write_sources "$scratch/sources.list"
    [ ! -s "$scratch/sources.list" ] || sources=("$scratch/sources.list")
    for tree in doc man locale i18n info lintian bash-completion zsh; do
        exclude+=(--dpkgopt="path-exclude=/usr/share/$tree/*")
    done
    local mode=root
    [ "$(id -u)" -eq 0 ] || mode=unshare
    TMPDIR=$scratch mmdebstrap --mode=$mode --format=tar --dpkgopt=force-unsafe-io "${exclude[@]}" \
        --aptopt='Apt::Install-Recommends "false"' "$@" "$suite" "$tar" "${sources[@]}"
}

# unpack_packages SCRATCH PACKAGE PATTERN...: the libraries of a package and what it depends on, and what the patterns name, in
# SCRATCH/packages. Nothing is configured: what the packages' scripts would do is the recipe's to do.
unpack_packages() {
    local scratch=$1 package=$2
    shift 2
    bootstrap "$scratch" "$scratch/packages.tar" --variant=extract --include="$package"
    mkdir "$scratch/packages"
    tar --extract --file "$scratch/packages.tar" --directory "$scratch/packages" --wildcards \
        './lib/*-linux-*/*.so*' './usr/lib/*-linux-*/*.so*' './lib64/*' "$@"
}
