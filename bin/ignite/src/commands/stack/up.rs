//! `ignite stack up`: a directory's VMs, in the order of what they depend on.

use crate::commands::apply::{How, apply};
use crate::commands::manifests;
use crate::context::Context;
use crate::report::UsageError;
use ignite_api::names;
use ignite_reconcile::{Options, Owner};
use std::path::{Path, PathBuf};

/// Flags of `stack up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of its manifests, or a file
    #[arg(default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
    /// Name of the stack [default: the directory's]
    #[arg(short, long)]
    pub name: Option<String>,
    /// How it is done.
    #[command(flatten)]
    pub how: How,
}

/// Prints what becomes of each VM.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let name = match args.name {
        Some(name) => name,
        None => name_of(&args.directory)?,
    };
    names::check_vm_name(&name).map_err(|error| UsageError(format!("--name: {error}")))?;
    let set = manifests::read(&[args.directory], &context.settings)?;
    let options = Options {
        owner: Owner::stack(&name),
        stack: Some(name),
        is_adopting: false,
        is_pruning: true,
        is_healing: false,
    };
    apply(set, options, &args.how, context).await
}

/// A stack is named as its directory, or its file without what its name ends with.
fn name_of(path: &Path) -> anyhow::Result<String> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let last = if real.is_dir() { real.file_name() } else { real.file_stem() };
    let text = last.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-').to_owned();
    match name.is_empty() {
        true => Err(UsageError(format!("{} gives no name for a stack; use --name", path.display())).into()),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_named_as_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let shop = dir.path().join("My_Shop");
        std::fs::create_dir(&shop).unwrap();
        std::fs::write(shop.join("web.app.yaml"), "").unwrap();
        assert_eq!(name_of(&shop).unwrap(), "my-shop");
        assert_eq!(name_of(&shop.join("web.app.yaml")).unwrap(), "web-app");
        assert!(name_of(Path::new("/")).is_err());
    }
}
