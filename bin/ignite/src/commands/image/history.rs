//! `ignite image history`.

use crate::commands::print;
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::table;
use ignite_api::Size;

/// Flags of `image history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the steps as they are
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Name or id
    pub image: String,
}

/// Prints how the image was built, the newest step first.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let mut steps = engine.image_history(&engine.find_image(&args.image)?).await?;
    steps.reverse();
    if let Some(format) = args.output {
        print(&document::render(&steps, format)?)?;
        return Ok(0);
    }
    let rows = steps.into_iter().map(|step| {
        [
            step.created.unwrap_or_default(),
            step.size.map(|bytes| Size::bytes(bytes).human()).unwrap_or_default(),
            if step.created_by.is_empty() { "<not told>".to_owned() } else { step.created_by },
            step.comment,
        ]
    });
    print(&table::render(["CREATED", "SIZE", "CREATED BY", "COMMENT"], rows.collect()))?;
    Ok(0)
}
