//! Entry after entry of a tar stream.

use std::io::{self, Read};

use crate::tree::Xattr;

use super::header::{BLOCK, Format, Header, parse_number};
use super::pax::{Pax, decimal};
use super::sparse::{self, MAX_STRETCHES, Stretch};

/// Longest extended header or long name, as in Go.
const MAX_EXTENSION: u64 = 1 << 20;
/// Device numbers that Linux has: 12 and 20 bits.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("the archive ends in the middle")]
    Truncated,
    #[error("the archive is malformed: {0}")]
    Malformed(&'static str),
    #[error("the archive's extended headers take more than {MAX_EXTENSION} bytes")]
    ExtensionTooLong,
    #[error("entries of tar type {:?} are not supported", char::from(*.0))]
    UnknownType(u8),
    #[error("its {0} is out of range")]
    OutOfRange(&'static str),
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Dir,
    Fifo,
}

/// How the bytes that follow an entry make its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// From start to end.
    Dense,
    /// These stretches, one after the other.
    Sparse(Vec<Stretch>),
}

/// One entry; its content follows in the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarEntry {
    pub name: Vec<u8>,
    pub link_name: Vec<u8>,
    pub kind: EntryKind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    /// Bytes of the file, holes included; 0 for all but files.
    pub size: u64,
    pub content: Content,
    pub xattrs: Vec<Xattr>,
}

/// Reads a tar stream once, front to back.
pub(crate) struct TarReader<R> {
    stream: R,
    /// Content of the current entry not read yet, and the padding after it.
    remaining: u64,
    padding: u64,
    position: u64,
    name: Vec<u8>,
}

impl<R: Read> TarReader<R> {
    pub fn new(stream: R) -> TarReader<R> {
        TarReader { stream, remaining: 0, padding: 0, position: 0, name: Vec::new() }
    }

    /// Bytes read of the stream so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The name of the last entry begun, also of one that was refused.
    pub fn entry_name(&self) -> &[u8] {
        &self.name
    }

    /// The next entry; what is left of the one before is skipped. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut pax = Pax::default();
        let mut long_name = None;
        let mut long_link = None;
        loop {
            let Some(block) = self.next_header()? else {
                return match (long_name, long_link, pax == Pax::default()) {
                    (None, None, true) => Ok(None),
                    _ => Err(TarError::Truncated),
                };
            };
            let header = Header::parse(&block)?;
            match header.type_flag() {
                b'x' => pax = Pax::parse(&self.read_extension(&header)?)?,
                b'L' => long_name = Some(until_nul(self.read_extension(&header)?)),
                b'K' => long_link = Some(until_nul(self.read_extension(&header)?)),
                // Global headers (git writes its commit there) and GNU volume labels: nothing to unpack.
                b'g' | b'V' => self.skip_content(&header)?,
                _ => return self.read_entry(&header, pax, long_name, long_link).map(Some),
            }
        }
    }

    /// Reads content of the current entry; 0 bytes at its end.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let read = self.read_some(&mut buffer[..want])?;
        if read == 0 {
            return Err(TarError::Truncated);
        }
        self.remaining -= read as u64;
        Ok(read)
    }

    /// Reads what follows the archive to the end of the stream, so that a verifying source sees all of it.
    pub fn drain(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 16 << 10];
        while self.read_some(&mut buffer)? > 0 {}
        Ok(())
    }

    fn read_entry(
        &mut self,
        header: &Header<'_>,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<TarEntry, TarError> {
        let name = pax.path.or(long_name).unwrap_or_else(|| header.name());
        let link_name = pax.link_path.or(long_link).unwrap_or_else(|| header.link_name());
        self.name.clone_from(&name);
        let device = |device: (i64, i64)| match device {
            (0..=MAX_MAJOR, 0..=MAX_MINOR) => Ok((device.0 as u32, device.1 as u32)),
            _ => Err(TarError::OutOfRange("device number")),
        };
        let kind = match header.type_flag() {
            0 if name.ends_with(b"/") => EntryKind::Dir,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => device(header.device()?).map(|(major, minor)| EntryKind::Char { major, minor })?,
            b'4' => device(header.device()?).map(|(major, minor)| EntryKind::Block { major, minor })?,
            b'5' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            other => return Err(TarError::UnknownType(other)),
        };
        let id = |id: i64, what| u32::try_from(id).map_err(|_| TarError::OutOfRange(what));
        let mtime = match pax.mtime {
            Some(time) => time,
            None => (header.mtime()?, 0),
        };
        let mut entry = TarEntry {
            name,
            link_name,
            kind,
            mode: (header.mode()? & 0o7777) as u16,
            uid: id(pax.uid.map_or_else(|| header.uid(), Ok)?, "owner")?,
            gid: id(pax.gid.map_or_else(|| header.gid(), Ok)?, "group")?,
            mtime,
            size: 0,
            content: Content::Dense,
            xattrs: pax.xattrs,
        };
        if kind != EntryKind::File {
            return Ok(entry);
        }
        let stored = pax.size.map_or_else(|| header.size(), Ok)?;
        self.start_content(stored)?;
        entry.size = self.remaining;

        let numbers = match (header.type_flag(), pax.sparse_version) {
            (b'S', _) if header.format() == Format::Gnu => Some(self.read_old_gnu_map(header, &mut entry.size)?),
            (b'S', _) => return Err(TarError::UnknownType(b'S')),
            (_, (Some(1), Some(0))) => Some(self.read_pax_map()?),
            (_, (None, None) | (Some(0), Some(0 | 1))) => pax.sparse_map,
            _ => return Err(TarError::Malformed("an unknown form of sparse file")),
        };
        if let Some(numbers) = numbers {
            if header.type_flag() != b'S' {
                let size = pax.sparse_size.ok_or(TarError::Malformed("a sparse file without a size"))?;
                entry.size = u64::try_from(size).map_err(|_| TarError::OutOfRange("size"))?;
                entry.name = pax.sparse_name.unwrap_or(entry.name);
            }
            entry.content = Content::Sparse(sparse::check_map(&numbers, entry.size, self.remaining)?);
        }
        Ok(entry)
    }

    /// Old GNU: entries in the header and in blocks after it; the real size in the header.
    fn read_old_gnu_map(&mut self, header: &Header<'_>, size: &mut u64) -> Result<Vec<i64>, TarError> {
        let (entries, mut has_more, real_size) = header.gnu_sparse();
        *size =
            parse_number(real_size).and_then(|size| u64::try_from(size).ok()).ok_or(TarError::OutOfRange("size"))?;
        let mut numbers = Vec::new();
        sparse::read_gnu_entries(entries, &mut numbers)?;
        while has_more {
            let mut block = [0; BLOCK];
            self.read_exactly(&mut block)?;
            sparse::read_gnu_entries(&block[..504], &mut numbers)?;
            has_more = block[504] != 0;
            if numbers.len() > 2 * MAX_STRETCHES {
                return Err(TarError::Malformed("the map of a sparse file"));
            }
        }
        Ok(numbers)
    }

    /// PAX 1.0: decimal lines at the start of the content, padded to a block.
    fn read_pax_map(&mut self) -> Result<Vec<i64>, TarError> {
        let bad = TarError::Malformed("the map of a sparse file");
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut line = Vec::new();
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(bad);
            }
            let mut block = [0; BLOCK];
            self.read_exactly(&mut block)?;
            self.remaining -= BLOCK as u64;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(bad);
                    }
                    continue;
                }
                let Some(number) = decimal(&line) else { return Err(bad) };
                line.clear();
                match wanted {
                    None if (0..=MAX_STRETCHES as i64).contains(&number) => wanted = Some(2 * number as usize),
                    None => return Err(bad),
                    Some(_) => numbers.push(number),
                }
                if wanted == Some(numbers.len()) {
                    return Ok(numbers);
                }
            }
        }
    }

    /// The next header block, or `None` at the end of the archive.
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        self.skip_rest()?;
        let mut block = [0; BLOCK];
        if !self.read_block(&mut block)? {
            return Ok(None);
        }
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        if self.read_block(&mut block)? && block != [0; BLOCK] {
            return Err(TarError::Malformed("a single block of zeros"));
        }
        Ok(None)
    }

    fn read_extension(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        self.start_content(header.size()?)?;
        if self.remaining > MAX_EXTENSION {
            return Err(TarError::ExtensionTooLong);
        }
        let mut content = vec![0; self.remaining as usize];
        self.read_exactly(&mut content)?;
        self.remaining = 0;
        Ok(content)
    }

    fn skip_content(&mut self, header: &Header<'_>) -> Result<(), TarError> {
        self.start_content(header.size()?)
    }

    fn start_content(&mut self, size: i64) -> Result<(), TarError> {
        self.remaining = u64::try_from(size).map_err(|_| TarError::OutOfRange("size"))?;
        self.padding = self.remaining.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut left = self.remaining.checked_add(self.padding).ok_or(TarError::OutOfRange("size"))?;
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let read = self.read_some(&mut buffer[..want])?;
            if read == 0 {
                // Some writers leave out the padding of the last entry.
                if left <= self.padding {
                    break;
                }
                return Err(TarError::Truncated);
            }
            left -= read as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// Fills the block, or says that the stream ended before it.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(TarError::Truncated),
                read => filled += read,
            }
        }
        Ok(true)
    }

    fn read_exactly(&mut self, mut buffer: &mut [u8]) -> Result<(), TarError> {
        while !buffer.is_empty() {
            match self.read_some(buffer)? {
                0 => return Err(TarError::Truncated),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.stream.read(buffer) {
                Ok(read) => {
                    self.position += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}
