//! Root disks made from an image's layers: the shared read-only base, or a private one.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ext4::{BLOCK, BlockCursor, FsOptions, Geometry, ImageFile, Visibility, finish};
use crate::layers::{Flattened, find_file, flatten};
use crate::tree::{Body, Tree};
use crate::writable::disk_blocks;
use crate::{DiskError, LayerSource};

/// Raised whenever the same layers would give other bytes: a base of another version is made anew.
const FORMAT_VERSION: u32 = 1;
/// A base grows to this at most.
const MAX_BASE: u64 = 1 << 40;

/// What a root disk turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseInfo {
    /// Bytes of the disk image, holes included.
    pub size: u64,
    /// Sum of the sizes of all regular files, each inode counted once.
    pub content_size: u64,
    /// Whether `/sbin/init` leads to an executable file, symbolic links followed inside the image.
    pub has_init: bool,
    /// Names in the tree, the root included.
    pub entries: u64,
}

/// The name of the base that these layers (diff ids, bottom first) make, in hexadecimal: the same layers give the same
/// base whatever source they come from.
pub fn base_key(diff_ids: &[String]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("ignite base {FORMAT_VERSION}\n"));
    for id in diff_ids {
        hash.update(id);
        hash.update("\n");
    }
    hex::encode(hash.finalize())
}

/// Flattens `layers` (bottom first) into a read-only ext4 image at `dest`, mode 0444, as small as its content allows.
///
/// The same layers give the same bytes. Each layer is opened and read once, with the next one read ahead; `progress`
/// hears how many decompressed bytes are done. Memory does not grow with content, and by about 110 bytes per entry.
/// The image has no journal and no `lost+found`, is written to a temporary file next to `dest`, made durable and then
/// renamed; on error nothing is left.
pub fn write_base(layers: &[&dyn LayerSource], dest: &Path, progress: &dyn Fn(u64)) -> Result<BaseInfo, DiskError> {
    let geometry = Geometry::new(MAX_BASE / BLOCK);
    write_root(layers, dest, geometry, None, progress)
}

/// Flattens `layers` (bottom first) into a writable, sparse ext4 image of `size` bytes at `dest`, mode 0600.
///
/// As [`write_base`], with a journal and room to write. Fails when the content does not fit; content that upper layers
/// replace takes room while the disk is made.
pub fn write_private_root(
    layers: &[&dyn LayerSource],
    dest: &Path,
    size: u64,
    progress: &dyn Fn(u64),
) -> Result<BaseInfo, DiskError> {
    let geometry = Geometry::new(disk_blocks(size)?);
    write_root(layers, dest, geometry, Some(size), progress)
}

fn write_root(
    layers: &[&dyn LayerSource],
    dest: &Path,
    geometry: Geometry,
    size: Option<u64>,
    progress: &dyn Fn(u64),
) -> Result<BaseInfo, DiskError> {
    let max_blocks = geometry.max_blocks;
    let mut image = ImageFile::create(dest)?;
    let mut cursor = BlockCursor::new(geometry);
    let Flattened { tree, identity } = flatten(layers, &mut image, &mut cursor, progress)?;
    let options =
        FsOptions { size: size.map(|_| max_blocks * BLOCK), uuid: uuid(identity), is_writable: size.is_some() };
    let bytes = finish(&mut image, cursor, &tree, &options)?;
    let visibility = if size.is_some() { Visibility::Private } else { Visibility::Shared };
    let info = describe(&tree, size.unwrap_or(bytes));
    image.publish(info.size, visibility)?;
    Ok(info)
}

/// A UUID (RFC 9562, version 8) that follows from the layers, so that the image's bytes do.
fn uuid(identity: [u8; 32]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&identity[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn describe(tree: &Tree, size: u64) -> BaseInfo {
    let mut info = BaseInfo { size, content_size: 0, has_init: false, entries: 0 };
    for inode in tree.inodes() {
        match inode.body {
            Body::Removed => {}
            Body::Dir { .. } => info.entries += 1,
            Body::File { size, .. } | Body::Sparse { size, .. } => {
                info.content_size += size;
                info.entries += u64::from(inode.links);
            }
            Body::Symlink { .. } | Body::Char { .. } | Body::Block { .. } | Body::Fifo => {
                info.entries += u64::from(inode.links);
            }
        }
    }
    info.has_init = find_file(tree, b"sbin/init").is_some_and(|inode| tree.inode(inode).mode & 0o111 != 0);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_each_layer_and_on_their_order() {
        let key = |ids: &[&str]| base_key(&ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(key(&["sha256:a", "sha256:b"]), key(&["sha256:a", "sha256:b"]));
        assert_ne!(key(&["sha256:a", "sha256:b"]), key(&["sha256:b", "sha256:a"]));
        assert_ne!(key(&["sha256:a"]), key(&[]));
        assert_eq!(key(&[]).len(), 64);
    }
}
