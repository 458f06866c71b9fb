//! `ignite kernel import`.

use crate::commands::print_line;
use crate::commands::pull_source::Runtime;
use crate::context::Context;
use crate::signals::interruptible;
use ignite_engine::{ImportKernel, KernelSourceArg};
use std::path::{Path, PathBuf};

/// Flags of `kernel import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name it gets here [default: its release]
    #[arg(short, long)]
    pub name: Option<String>,
    /// Its modules (a /lib/modules/RELEASE directory), where the source is a bare kernel
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,
    /// Its configuration, where the source is a bare kernel [default: what it has in itself or beside it]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An initrd (cpio, compressed or not) that its VMs' initramfs begins with: microcode, ACPI tables, firmware; /init
    /// stays ours
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Give it to VMs that name no kernel; the first one imported is the default anyway
    #[arg(long)]
    pub default: bool,
    /// Where a bare image reference is pulled from [default: registry]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub runtime: Option<Runtime>,
    /// Where it comes from: a .deb, vmlinux or bzImage file, apt:PACKAGE, host[:RELEASE] for this host's own, or an image
    #[arg(value_parser = parse_source)]
    pub source: KernelSourceArg,
}

/// Prints the kernel's id.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let working_dir = std::env::current_dir()?;
    let runtime = args.runtime.unwrap_or(context.settings.runtime);
    let source = match args.source {
        KernelSourceArg::Image(image) => KernelSourceArg::Image(runtime.apply(image)),
        other => other,
    };
    let request = ImportKernel {
        source: resolve_path(source, &working_dir),
        name: args.name,
        modules: args.modules.map(|path| working_dir.join(path)),
        config: args.config.map(|path| working_dir.join(path)),
        initrd: args.initrd.map(|path| working_dir.join(path)),
        make_default: args.default,
    };
    let progress = context.progress();
    let kernel = interruptible(context.engine()?.import_kernel(request, progress.listener())).await?;
    progress.finish();
    context.note(&format!("Imported kernel {} ({})", kernel.metadata.name, kernel.status.version));
    if let Some(uid) = &kernel.metadata.uid {
        print_line(uid)?;
    }
    Ok(0)
}

/// A file when it is written like one or exists, else an image.
fn parse_source(text: &str) -> Result<KernelSourceArg, String> {
    let path = Path::new(text);
    if let Some(package) = text.strip_prefix("apt:") {
        return Ok(KernelSourceArg::Apt(package.to_owned()));
    }
    if text == "host" {
        return Ok(KernelSourceArg::HostBoot { release: None });
    }
    if let Some(release) = text.strip_prefix("host:") {
        return Ok(KernelSourceArg::HostBoot { release: Some(release.to_owned()) });
    }
    let is_path = text.starts_with(['/', '.']) || path.extension().is_some_and(|ext| ext == "deb") || path.is_file();
    if is_path {
        return Ok(KernelSourceArg::Path(path.to_owned()));
    }
    text.parse().map(KernelSourceArg::Image).map_err(|error: ignite_api::reference::InvalidReference| error.to_string())
}

fn resolve_path(source: KernelSourceArg, working_dir: &Path) -> KernelSourceArg {
    match source {
        KernelSourceArg::Path(path) => KernelSourceArg::Path(working_dir.join(path)),
        KernelSourceArg::Image(image) => KernelSourceArg::Image(image.resolve_path(working_dir)),
        KernelSourceArg::Apt(_) | KernelSourceArg::HostBoot { .. } => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_files_packages_the_host_or_images() {
        let image = |text: &str| KernelSourceArg::Image(text.parse().unwrap());
        for (text, source) in [
            ("/boot/vmlinuz", KernelSourceArg::Path("/boot/vmlinuz".into())),
            ("./vmlinux", KernelSourceArg::Path("./vmlinux".into())),
            ("linux-image.deb", KernelSourceArg::Path("linux-image.deb".into())),
            ("apt:linux-image-cloud-amd64", KernelSourceArg::Apt("linux-image-cloud-amd64".into())),
            ("host", KernelSourceArg::HostBoot { release: None }),
            ("host:6.1.0-56-amd64", KernelSourceArg::HostBoot { release: Some("6.1.0-56-amd64".into()) }),
            ("weaveworks/ignite-kernel:5.10.51", image("weaveworks/ignite-kernel:5.10.51")),
            ("oci:/srv/kernel:v1", image("oci:/srv/kernel:v1")),
        ] {
            assert_eq!(parse_source(text), Ok(source), "{text}");
        }
        assert!(parse_source("UPPER CASE").is_err());
    }
}
