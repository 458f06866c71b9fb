//! The compressions kernels and modules come in.

use std::io::{self, Read};

use super::blocks::{BlockSource, Blocks};
use super::lzop::{self, Lzop};
use bzip2::read::{BzDecoder, MultiBzDecoder};
use flate2::read::{GzDecoder, MultiGzDecoder};
use lzma_rust2::{LzmaReader, XzReader};

/// Memory that an xz or lzma stream may ask for, in KiB; `xz -9` takes 65 MiB, kernels use up to 128 MiB.
const XZ_MEMORY_KIB: u32 = 160 << 10;
/// Legacy lz4 cuts its input into blocks of this size.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
    Lzma,
    Lz4Legacy,
    Bzip2,
    Lzop,
}

impl Compression {
    /// Tells from a stream's first bytes.
    pub fn detect(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0x5d, 0, 0, ..] => Compression::Lzma,
            head if head.starts_with(&LZ4_LEGACY_MAGIC) => Compression::Lz4Legacy,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            head if head.starts_with(&lzop::MAGIC) => Compression::Lzop,
            _ => Compression::None,
        }
    }

    /// Decompresses one stream; bytes after its end (kernels append their size) are not looked at.
    pub fn open<'a>(self, stream: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => Box::new(stream),
            Compression::Gzip => Box::new(GzDecoder::new(stream)),
            Compression::Xz => Box::new(XzReader::new_mem_limit(stream, false, XZ_MEMORY_KIB)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(stream)?.single_frame();
                // `--ultra --long` kernels use windows up to 128 MiB.
                decoder.window_log_max(27)?;
                Box::new(decoder)
            }
            Compression::Lzma => {
                let decoder = LzmaReader::new_mem_limit(stream, XZ_MEMORY_KIB, None).map_err(io::Error::other)?;
                Box::new(decoder)
            }
            Compression::Lz4Legacy => Box::new(Lz4Legacy::open(stream)?),
            Compression::Bzip2 => Box::new(BzDecoder::new(stream)),
            Compression::Lzop => Box::new(Lzop::open(stream)?),
        })
    }

    /// Decompresses all streams that stand behind each other, where the format tells them apart, else the first.
    pub fn open_all<'a>(self, stream: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::Gzip => Box::new(MultiGzDecoder::new(stream)),
            Compression::Xz => Box::new(XzReader::new_mem_limit(stream, true, XZ_MEMORY_KIB)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(stream)?;
                decoder.window_log_max(27)?;
                Box::new(decoder)
            }
            Compression::Bzip2 => Box::new(MultiBzDecoder::new(stream)),
            _ => self.open(stream)?,
        })
    }
}

/// Legacy lz4 frames, the only ones that kernels use: a magic number, then blocks led by their compressed length.
struct Lz4Legacy<R> {
    stream: R,
}

impl<R: Read> Lz4Legacy<R> {
    fn open(mut stream: R) -> io::Result<Blocks<Lz4Legacy<R>>> {
        let mut magic = [0; 4];
        stream.read_exact(&mut magic)?;
        if magic != LZ4_LEGACY_MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a legacy lz4 frame"));
        }
        Ok(Blocks::of(Lz4Legacy { stream }))
    }
}

impl<R: Read> BlockSource for Lz4Legacy<R> {
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        let mut len = [0; 4];
        let found = read_up_to(&mut self.stream, &mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        // After the last block stands the size of the whole, which no block could have: its data is missing.
        let bound = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;
        let mut compressed = vec![0; if found == 4 && len <= bound { len } else { 0 }];
        let read = read_up_to(&mut self.stream, &mut compressed)?;
        if read == 0 {
            return Ok(false);
        }
        if read < compressed.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        block.resize(LZ4_BLOCK, 0);
        let len = lz4_flex::block::decompress_into(&compressed, block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        block.truncate(len);
        Ok(true)
    }
}

/// Fills as much of the buffer as the stream has.
pub(crate) fn read_up_to(stream: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// All of a stream, refused when it is longer than `limit`.
pub(super) fn read_bounded(stream: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
