//! `ignite image verify`.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report::Hinted;
use crate::signals::interruptible;

/// Flags of `image verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id [default: all images]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Prints a line for each image; fails when one is damaged.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uids = match args.images.as_slice() {
        [] => engine.list_images()?.into_iter().filter_map(|image| image.metadata.uid).collect(),
        queries => queries.iter().map(|query| engine.find_image(query)).collect::<Result<Vec<_>, _>>()?,
    };
    let mut damaged = Vec::new();
    for uid in &uids {
        let verdict = interruptible(engine.verify_image(uid)).await?;
        let state = if verdict.damaged.is_empty() { "ok" } else { "DAMAGED" };
        print_line(format_args!("{}: {state}", sanitize(&verdict.name)))?;
        damaged.extend(verdict.damaged.into_iter().map(|damage| (verdict.name.clone(), damage)));
    }
    let Some((name, _)) = damaged.first() else { return Ok(0) };
    let lines: Vec<String> = damaged.iter().map(|(name, damage)| format!("{name}: {damage}")).collect();
    Err(Hinted {
        message: format!("not as it was written:\n{}", lines.join("\n")),
        hint: format!(
            "remove it and import it again: ignite image rm {name}; a disk that loses bits should be looked at"
        ),
    }
    .into())
}
