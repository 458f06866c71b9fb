//! Measures imports: `import_bench base DEST LAYER.tar.gz...`, `import_bench disk DEST BYTES`,
//! `import_bench kernel DIR PACKAGE.deb INIT`.
#![allow(missing_docs, clippy::print_stdout, reason = "a program that prints what it measures")]

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ignite_disk::{KernelInput, LayerSource, create_writable_disk, import_kernel, write_base, write_initramfs};

struct GzipLayer(PathBuf);

impl LayerSource for GzipLayer {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let file = BufReader::with_capacity(128 << 10, File::open(&self.0)?);
        Ok(match self.0.extension().is_some_and(|ending| ending == "tar") {
            true => Box::new(file),
            false => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        })
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["base", dest, ref layers @ ..] => {
            let layers: Vec<GzipLayer> = layers.iter().map(|path| GzipLayer(path.into())).collect();
            let layers: Vec<&dyn LayerSource> = layers.iter().map(|layer| layer as _).collect();
            println!("{:?}", write_base(&layers, Path::new(dest), &|_| {})?);
        }
        ["disk", dest, size] => create_writable_disk(Path::new(dest), size.parse()?, [1; 16])?,
        ["kernel", dir, package, init] => {
            println!("{:?}", import_kernel(KernelInput::Deb(Path::new(package)), Path::new(dir))?);
            let elapsed = start.elapsed();
            write_initramfs(Path::new(dir), &std::fs::read(init)?, &Path::new(dir).join("initramfs"))?;
            println!("initramfs after {:?}", start.elapsed() - elapsed);
        }
        _ => return Err("usage: import_bench base DEST LAYER... | disk DEST BYTES | kernel DIR DEB INIT".into()),
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{:?}, {peak}", start.elapsed());
    Ok(())
}
