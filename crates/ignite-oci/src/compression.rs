//! Compression, told from the first bytes of a stream and not from what somebody says it is.

use crate::limits::{MAX_XZ_MEMORY_KIB, MAX_ZSTD_WINDOW_LOG};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufRead, BufReader, Read};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// Of archives only.
    Xz,
    /// Of archives only.
    Bzip2,
}

impl Compression {
    /// Tells the compression from the first bytes; fewer than the magic needs means none.
    pub(crate) fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A zstd skippable frame, as estargz-like tools write first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }

    /// A compression that no layer may have (image-spec 1.1, layer.md), by its name.
    pub(crate) fn refused_for_layers(self) -> Option<&'static str> {
        match self {
            Compression::None | Compression::Gzip | Compression::Zstd => None,
            Compression::Xz => Some("xz"),
            Compression::Bzip2 => Some("bzip2"),
        }
    }
}

/// Decompresses `reader` after looking at its first bytes: gzip of any number of members, zstd of any number of frames,
/// or as it is; xz and bzip2 likewise. Memory is bounded by the zstd window of [`MAX_ZSTD_WINDOW_LOG`], and by
/// [`MAX_XZ_MEMORY_KIB`].
pub(crate) fn decompress<'a>(reader: impl Read + Send + 'a) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = BufReader::with_capacity(64 << 10, Prefetched::new(reader)?);
    let compression = Compression::detect(reader.fill_buf()?);
    let decoder: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(XzReader::new_mem_limit(reader, true, MAX_XZ_MEMORY_KIB)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(reader)),
    };
    Ok((compression, decoder))
}

/// A reader whose first bytes were read ahead, so that a pipe's short first read cannot hide a magic number.
struct Prefetched<R> {
    start: [u8; 8],
    range: std::ops::Range<usize>,
    rest: R,
}

impl<R: Read> Prefetched<R> {
    fn new(mut rest: R) -> io::Result<Prefetched<R>> {
        let mut start = [0; 8];
        let mut filled = 0;
        while filled < start.len() {
            match rest.read(&mut start[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Prefetched { start, range: 0..filled, rest })
    }
}

impl<R: Read> Read for Prefetched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.range.is_empty() {
            return self.rest.read(buffer);
        }
        let count = self.range.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.start[self.range.start..self.range.start + count]);
        self.range.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// Gives one byte at a time, as a slow pipe does.
    struct Drip<'a>(&'a [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(buffer.len()).min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(bytes: &[u8]) -> (Compression, io::Result<Vec<u8>>) {
        let (compression, mut reader) = decompress(Drip(bytes)).unwrap();
        let mut out = Vec::new();
        let result = reader.read_to_end(&mut out).map(|_| out);
        (compression, result)
    }

    #[test]
    fn each_compression_is_told_by_its_magic_and_may_have_several_parts() {
        let twice = |part: Vec<u8>| [part.clone(), part].concat();
        let cases = [
            (Compression::None, b"plainplain".to_vec()),
            (Compression::Gzip, twice(gzip(b"plain"))),
            (Compression::Zstd, twice(zstd::encode_all(&b"plain"[..], 1).unwrap())),
            (Compression::Xz, twice(xz(b"plain"))),
            (Compression::Bzip2, twice(bzip2(b"plain"))),
        ];
        for (expected, bytes) in cases {
            let (compression, content) = read_all(&bytes);
            assert_eq!((compression, content.unwrap().as_slice()), (expected, &b"plainplain"[..]));
        }
        assert_eq!(read_all(b"").1.unwrap(), b"");
        assert_eq!(read_all(b"\x1f").0, Compression::None);
    }

    #[test]
    fn truncated_streams_are_errors() {
        let content = [7; 5000];
        for mut bytes in [gzip(&content), zstd::encode_all(&content[..], 1).unwrap(), xz(&content), bzip2(&content)] {
            bytes.truncate(bytes.len() - 3);
            assert!(read_all(&bytes).1.is_err());
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in 0..5) {
            let start: &[u8] = match magic {
                0 => &[0x1f, 0x8b, 8],
                1 => &[0x28, 0xb5, 0x2f, 0xfd],
                2 => &[0xfd, b'7', b'z', b'X', b'Z', 0],
                3 => b"BZh91A",
                _ => &[],
            };
            bytes.splice(0..0, start.iter().copied());
            let (_, reader) = decompress(bytes.as_slice()).unwrap();
            let _ = reader.take(1 << 20).read_to_end(&mut Vec::new());
        }
    }
}
