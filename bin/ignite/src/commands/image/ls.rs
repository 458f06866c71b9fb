//! `ignite image ls`.

use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::{table, vm_table};
use ignite_api::Image;
use jiff::Timestamp;

/// Flags of `image ls`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Print the objects
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Prints the table, the objects, or the ids.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let images = context.engine()?.list_images()?;
    if context.is_quiet() {
        for uid in images.iter().filter_map(|image| image.metadata.uid.as_ref()) {
            print_line(uid)?;
        }
        return Ok(0);
    }
    print(&match args.output {
        Some(format) => document::render(&images, format)?,
        None => render(&images, Timestamp::now()),
    })?;
    Ok(0)
}

fn render(images: &[Image], now: Timestamp) -> String {
    let row = |image: &Image| {
        [
            image.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
            image.metadata.name.clone(),
            vm_table::age(image.metadata.created, now),
            image.status.oci_source.as_ref().map(|source| source.size.human()).unwrap_or_default(),
        ]
    };
    table::render(["IMAGE ID", "NAME", "CREATED", "SIZE"], images.iter().map(row).collect())
}
