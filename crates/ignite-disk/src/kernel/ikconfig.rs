//! The configuration that a kernel carries in itself (`CONFIG_IKCONFIG`).

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::GzDecoder;

use super::decompress::{read_bounded, read_up_to};

/// Before the compressed configuration (kernel/configs.c: `IKCFG_ST`, a gzip stream, `IKCFG_ED`).
const START: &[u8] = b"IKCFG_ST";
/// What a gzip stream begins with; the mark alone may also be a text somewhere else.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
const WINDOW: usize = 1 << 20;

/// The configuration in an unpacked kernel, if it has one that is whole and no longer than `limit` bytes.
pub(super) fn read(kernel: &mut (impl Read + Seek), limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(at) = find(kernel)? else { return Ok(None) };
    kernel.seek(SeekFrom::Start(at))?;
    let config = read_bounded(GzDecoder::new(BufReader::new(kernel.take(limit))), limit);
    // A kernel is foreign bytes: one whose configuration is damaged just does not tell.
    Ok(config.ok().filter(|config| config.windows(7).any(|text| text == b"CONFIG_")))
}

/// Where the gzip stream begins.
fn find(kernel: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let overlap = START.len() + GZIP.len() - 1;
    kernel.rewind()?;
    let mut window = Vec::with_capacity(WINDOW + overlap);
    let mut window_at = 0;
    loop {
        let kept = window.len();
        window.resize(kept + WINDOW, 0);
        let read = read_up_to(kernel, &mut window[kept..])?;
        window.truncate(kept + read);
        let is_here = |bytes: &[u8]| bytes.starts_with(START) && bytes[START.len()..] == GZIP;
        if let Some(found) = window.windows(overlap + 1).position(is_here) {
            return Ok(Some(window_at + (found + START.len()) as u64));
        }
        if read < WINDOW {
            return Ok(None);
        }
        let done = window.len() - overlap;
        window_at += done as u64;
        window.drain(..done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_configuration_is_found_wherever_it_is() {
        let config = b"# Linux\nCONFIG_X=y\n";
        // Also across the border of two windows, and after a mark that is only a text.
        for before in [0, 100, WINDOW - 4, WINDOW - 9, 2 * WINDOW + 7] {
            let mut kernel = vec![0x90; before];
            if before > 50 {
                kernel[10..18].copy_from_slice(START);
            }
            kernel.extend(START);
            kernel.extend(gzip(config));
            kernel.extend(b"IKCFG_ED and more");
            let found = read(&mut Cursor::new(kernel), 1 << 20).unwrap();
            assert_eq!(found.as_deref(), Some(&config[..]), "{before} bytes before it");
        }
    }

    #[test]
    fn what_is_absent_damaged_or_endless_tells_nothing() {
        let mut cut = [START, &gzip(&b"CONFIG_X=y\n".repeat(1000))].concat();
        cut.truncate(60);
        let endless = [START, &gzip(&b"CONFIG_X=y\n".repeat(10_000))].concat();
        let other = [START, &gzip(b"no configuration")].concat();
        for kernel in [vec![0; 100], START.to_vec(), cut, endless, other] {
            assert_eq!(read(&mut Cursor::new(kernel), 1000).unwrap(), None);
        }
    }
}
