//! Layers flattened into one tree: OCI image-spec 1.1, layer.md, with the reading that `umoci unpack` gives it.

mod apply;
mod content;
mod path;
mod prefetch;

pub(crate) use apply::{Flattened, flatten};
pub(crate) use path::{find_file, resolve_path};
use prefetch::Prefetched;
