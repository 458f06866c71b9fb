//! The bounds put on everything that is read from outside.

/// Largest manifest or index, in bytes; what registries themselves accept.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest image configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Most layers of one image.
pub const MAX_LAYERS: usize = 512;
/// Most entries of one index.
pub const MAX_INDEX_ENTRIES: usize = 1024;
/// Most indexes passed through before a manifest must come.
pub const MAX_INDEX_DEPTH: usize = 4;
/// Default bound of one layer's decompressed tar, in bytes.
pub const DEFAULT_MAX_LAYER_BYTES: u64 = 128 << 30;
/// Most members of an image archive.
pub const MAX_ARCHIVE_MEMBERS: usize = 65_536;
/// Longest member name or link target in an image archive, in bytes.
pub const MAX_MEMBER_NAME_BYTES: usize = 4096;
/// Largest zstd window, as a power of two: what `zstd --long` writes.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 27;
/// Memory that an archive in xz may ask for, in KiB: `xz -9` takes 65 MiB.
pub const MAX_XZ_MEMORY_KIB: u32 = 160 << 10;
/// Largest Docker `config.json`, in bytes.
pub(crate) const MAX_DOCKER_CONFIG_BYTES: u64 = 1 << 20;
/// Largest `registries.conf` or `hosts.toml`, in bytes.
pub(crate) const MAX_REGISTRIES_CONF_BYTES: u64 = 1 << 20;
/// Largest answer of a token server, in bytes.
pub(crate) const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// Largest `index.json` of a layout, in bytes.
pub(crate) const MAX_LAYOUT_INDEX_BYTES: u64 = 16 << 20;
/// As much of an error's body as is read.
pub(crate) const MAX_ERROR_BODY_BYTES: u64 = 8 << 10;
