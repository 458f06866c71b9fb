//! Flags behind the image: ours, as in `ignite run weaveworks/ignite-ubuntu --cpus 2`, or the image's, as in Docker's
//! `run redis --port 7000`.
//!
//! What follows an image belongs to its ENTRYPOINT, as in Docker. An image without one, or whose ENTRYPOINT is an init,
//! has nobody to give a flag to, and `--cpus` is no program: then they are flags of ours, if all of them are.

use crate::cli::{Cli, Command};
use crate::commands::create::wishes;
use crate::commands::vm;
use crate::commands::vm_flags::VmFlags;
use crate::context::Context;
use crate::settings;
use crate::signals::interruptible;
use clap::Parser;
use ignite_api::run_spec::takes_arguments;
use ignite_engine::ImportImage;
use std::ffi::OsString;

/// The invocation with the flags behind the image read as ours; `None` where that is not possible.
pub fn alternative(cli: &Cli, argv: &[OsString]) -> Option<Cli> {
    let words = &vm_flags(cli.command.as_ref()?)?.image_and_command;
    let (image, rest) = words.split_first()?;
    let image_at = argv.len().checked_sub(words.len())?;
    let is_separated = argv[..image_at].iter().any(|word| word == "--") || rest.iter().any(|word| word == "--");
    if is_separated || image == "-" || !rest.first()?.starts_with('-') || argv[image_at] != *image.as_str() {
        return None;
    }
    let mut reordered: Vec<OsString> = argv[..image_at].to_vec();
    reordered.extend(rest.iter().map(OsString::from));
    reordered.push(image.into());
    let alternative = Cli::try_parse_from(reordered).ok()?;
    let is_whole = vm_flags(alternative.command.as_ref()?)?.image_and_command == [image.as_str()];
    is_whole.then_some(alternative)
}

/// Does what was meant: `context` is the alternative's, where there is one.
pub async fn run(cli: Cli, alternative: Option<Cli>, context: &Context) -> anyhow::Result<u8> {
    match alternative {
        Some(alternative) if is_meant(&alternative, context).await? => do_command(alternative, context).await,
        Some(_) => {
            let own = Context::new(settings::resolve(&cli.global, &settings::Host::observe())?);
            do_command(cli, &own).await
        }
        None => do_command(cli, context).await,
    }
}

async fn do_command(cli: Cli, context: &Context) -> anyhow::Result<u8> {
    match cli.command {
        Some(command) => command.run(context).await,
        None => Ok(0),
    }
}

/// Whether that is what was meant: imports the image to see who would get the flags.
async fn is_meant(alternative: &Cli, context: &Context) -> anyhow::Result<bool> {
    let Some(flags) = alternative.command.as_ref().and_then(vm_flags) else { return Ok(false) };
    for vm in wishes(flags, context)? {
        let Some(source) = vm.spec.image.oci.filter(|_| vm.spec.command.is_none()) else { return Ok(false) };
        let (pull, platform) = (flags.pull.into(), flags.platform.clone());
        let request = ImportImage { source, pull, name: None, platform, stdin: None };
        let progress = context.progress();
        let image = interruptible(context.engine()?.import_image(request, progress.listener())).await?;
        progress.finish();
        if takes_arguments(&image.status.config) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn vm_flags(command: &Command) -> Option<&VmFlags> {
    match command {
        Command::Run(args) => Some(&args.vm),
        Command::Create(args) => Some(&args.vm),
        Command::Vm(vm::Args { command: Some(vm::Command::Run(args)), .. }) => Some(&args.vm),
        Command::Vm(vm::Args { command: Some(vm::Command::Create(args)), .. }) => Some(&args.vm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternative_of(line: &str) -> Option<Cli> {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        alternative(&Cli::try_parse_from(&argv).expect(line), &argv)
    }

    #[test]
    fn only_a_line_that_is_wholly_ours_can_be_read_as_weave_ignite_s() {
        for (line, is_possible) in [
            ("ignite run ubuntu --cpus 2 --memory 1GB --ssh --name my-vm", true),
            ("ignite vm create ubuntu -n x -q", true),
            ("ignite run -d ubuntu --size 3GB", true),
            ("ignite run ubuntu", false),
            ("ignite run ubuntu sleep -n 1", false),
            ("ignite run redis --port 7000", false),
            ("ignite run redis --name x --port 7000", false),
            ("ignite run ubuntu --cpus 2 sleep", false),
            ("ignite run ubuntu -- --cpus 2", false),
            ("ignite run -- ubuntu --cpus 2", false),
            ("ignite run - --cpus 2", false),
        ] {
            assert_eq!(alternative_of(line).is_some(), is_possible, "{line}");
        }
        let cli = alternative_of("ignite run -d ubuntu --cpus 2 --ssh --name my-vm -q").expect("Weave Ignite's order");
        let Some(Command::Run(args)) = &cli.command else { panic!() };
        assert!(args.detach && cli.global.quiet && args.vm.ssh.as_deref() == Some("true"));
        assert_eq!((args.vm.cpus, args.vm.name.as_deref()), (Some(2), Some("my-vm")));
        assert_eq!(args.vm.image_and_command, ["ubuntu"]);
    }
}
