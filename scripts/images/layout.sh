# Writing OCI layouts with umoci; sourced by recipes, which run with a scratch directory as $1.

# new_layout LAYOUT: an image with no layer, named latest.
new_layout() {
    umoci init --layout "$1"
    umoci new --image "$1:latest"
}

# add_layer LAYOUT TAR
add_layer() {
    umoci raw add-layer --image "$1:latest" "$2"
}

# configure LAYOUT OPTION...: umoci's --config.* options.
configure() {
    local layout=$1
    shift
    umoci config --image "$layout:latest" --no-history "$@"
    umoci gc --layout "$layout"
}

# pack DIR TAR: everything of DIR, owned by root, in an order and with times that do not depend on the day.
pack() {
    tar --create --file "$2" --directory "$1" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@1700000000 .
}
