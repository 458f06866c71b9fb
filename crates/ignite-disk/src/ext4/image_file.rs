//! A disk image on its way to its name: buffered, zeros left out, published by a rename.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use tempfile::NamedTempFile;

use crate::DiskError;

use super::geometry::{BLOCK, BlockCursor, Run};

const BUFFER: usize = 1 << 20;
const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Who may read a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Shared between VMs, whose VMMs run as other users: 0644.
    Shared,
    /// One VM's own data: 0600.
    Private,
}

/// The file; dropping it before [`ImageFile::publish`] leaves nothing, and where the file system can, neither does a
/// process that is killed meanwhile.
#[derive(Debug)]
pub(crate) struct ImageFile {
    file: Unpublished,
    dest: PathBuf,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    buffer_at: u64,
}

impl ImageFile {
    /// Opens a temporary file next to `dest`.
    pub fn create(dest: &Path) -> Result<ImageFile, DiskError> {
        let dir = directory(dest);
        let file = Unpublished::create(dir).map_err(|source| DiskError::WriteFile { path: dest.into(), source })?;
        Ok(ImageFile { file, dest: dest.into(), buffer: Vec::with_capacity(BUFFER), buffer_at: 0 })
    }

    /// The name the file will have.
    pub fn dest(&self) -> &Path {
        &self.dest
    }

    /// Reads what was written and [flushed](ImageFile::flush); zeros beyond the end are the caller's to know.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.as_file().read_at(out, offset)?;
        // Blocks of zeros at the end were never written.
        out[read..].fill(0);
        Ok(out.len())
    }

    /// Writes `bytes` at `offset`. No byte may be written twice, and what is written right before a block's end is that block's last.
    pub fn write_at(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), DiskError> {
        let gap = offset.wrapping_sub(self.buffer_at + self.buffer.len() as u64);
        let is_next_block = gap < BLOCK && offset.is_multiple_of(BLOCK);
        if gap == 0 || (is_next_block && self.buffer.len() + gap as usize <= BUFFER) {
            // The rest of the block where the content before ended: small files go out many at a time.
            self.buffer.resize(self.buffer.len() + gap as usize, 0);
        } else {
            self.flush()?;
            self.buffer_at = offset;
        }
        while !bytes.is_empty() {
            let room = BUFFER - self.buffer.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Gives blocks from `start` on back to the cursor that gave them; what they hold is not wanted any more.
    pub fn release(&mut self, cursor: &mut BlockCursor, start: u64, blocks: u64) -> Result<(), DiskError> {
        let runs: Vec<Run> = cursor.geometry.runs(start, blocks).collect();
        for run in runs {
            self.discard(run)?;
            cursor.give_back(run);
        }
        Ok(())
    }

    /// Frees the storage of blocks whose content is not wanted any more, and makes them read as zeros.
    fn discard(&mut self, run: Run) -> Result<(), DiskError> {
        self.flush()?;
        let (start, len) = (run.start * BLOCK, run.len * BLOCK);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self.file.as_file(), flags, start, len) {
            Ok(()) => Ok(()),
            // A file system without holes: the image's bytes must not depend on that.
            Err(_) => (0..run.len)
                .try_for_each(|block| self.file.as_file().write_all_at(&ZEROS, start + block * BLOCK))
                .map_err(|source| self.failed(source)),
        }
    }

    /// Makes the file `len` bytes long, durable and visible under its name.
    pub fn publish(mut self, len: u64, visibility: Visibility) -> Result<(), DiskError> {
        self.flush()?;
        let mode = match visibility {
            Visibility::Shared => 0o444,
            Visibility::Private => 0o600,
        };
        let file = self.file.as_file();
        file.set_len(len)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.sync_all())
            .map_err(|source| self.failed(source))?;
        let ImageFile { file, dest, .. } = self;
        let dir = directory(&dest);
        let published = file.publish(dir, &dest).and_then(|()| File::open(dir)?.sync_all());
        published.map_err(|source| DiskError::WriteFile { path: dest.clone(), source })
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        let file = self.file.as_file();
        write_without_zeros(file, self.buffer_at, &self.buffer).map_err(|source| self.failed(source))?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn failed(&self, source: io::Error) -> DiskError {
        DiskError::WriteFile { path: self.dest.clone(), source }
    }
}

fn directory(dest: &Path) -> &Path {
    dest.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that is not under its name yet.
#[derive(Debug)]
enum Unpublished {
    /// Under no name at all: gone when the process is.
    Nameless(File),
    /// Under a passing name, where the file system knows no nameless files.
    Named(NamedTempFile),
}

impl Unpublished {
    fn create(dir: &Path) -> io::Result<Unpublished> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Unpublished::Nameless(file.into())),
            Err(_) => tempfile::Builder::new().prefix(".making-").tempfile_in(dir).map(Unpublished::Named),
        }
    }

    fn as_file(&self) -> &File {
        match self {
            Unpublished::Nameless(file) => file,
            Unpublished::Named(file) => file.as_file(),
        }
    }

    fn publish(self, dir: &Path, dest: &Path) -> io::Result<()> {
        match self {
            Unpublished::Nameless(file) => {
                // A link cannot replace what has the name already, a rename can: so by way of a passing name.
                let link = |passing: &Path| {
                    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
                    Ok(rustix::fs::linkat(CWD, nameless, CWD, passing, AtFlags::SYMLINK_FOLLOW)?)
                };
                let passing = tempfile::Builder::new().prefix(".making-").make_in(dir, link)?;
                passing.into_temp_path().persist(dest).map_err(|error| error.error)
            }
            Unpublished::Named(file) => file.persist(dest).map(drop).map_err(|error| error.error),
        }
    }
}

/// Writes all but the blocks of zeros: unwritten parts of a new file are zeros already.
fn write_without_zeros(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    let mut pending = 0..0;
    while at < bytes.len() {
        let block_end = (offset + at as u64) / BLOCK * BLOCK + BLOCK;
        let end = bytes.len().min((block_end - offset) as usize);
        let chunk = &bytes[at..end];
        if chunk != &ZEROS[..chunk.len()] {
            if pending.end != at {
                file.write_all_at(&bytes[pending.clone()], offset + pending.start as u64)?;
                pending.start = at;
            }
            pending.end = end;
        }
        at = end;
    }
    file.write_all_at(&bytes[pending.clone()], offset + pending.start as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_take_no_space_and_bytes_land_where_they_were_put() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("image");
        let mut image = ImageFile::create(&dest).unwrap();
        image.write_at(5000, b"hello").unwrap();
        image.write_at(5005, &vec![0; 8 << 20]).unwrap();
        image.write_at(5005 + (8 << 20), b"end").unwrap();
        image.publish(16 << 20, Visibility::Private).unwrap();
        let bytes = std::fs::read(&dest).unwrap();
        assert_eq!(&bytes[5000..5006], b"hello\0");
        assert_eq!(&bytes[5005 + (8 << 20)..][..4], b"end\0");
        let stat = dest.metadata().unwrap();
        assert!(stat.blocks() * 512 <= 64 << 10, "{} blocks", stat.blocks());
        assert_eq!(stat.mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_lies_between_two_writes_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("image");
        let mut image = ImageFile::create(&dest).unwrap();
        image.write_at(512, b"between").unwrap();
        image.write_at(8192, b"far").unwrap();
        image.write_at(0, b"before").unwrap();
        image.write_at(1024, b"after").unwrap();
        image.publish(BLOCK * 3, Visibility::Shared).unwrap();
        let bytes = std::fs::read(&dest).unwrap();
        assert_eq!(
            (&bytes[512..519], &bytes[1024..1029], &bytes[..6]),
            (&b"between"[..], &b"after"[..], &b"before"[..])
        );
    }

    #[test]
    fn nothing_is_left_of_an_image_that_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut image = ImageFile::create(&dir.path().join("image")).unwrap();
        image.write_at(0, b"x").unwrap();
        drop(image);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
