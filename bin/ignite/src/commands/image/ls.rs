//! `ignite image ls`.

use crate::commands::selection::{Filter, Selection, print_each};
use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::{self, Format};
use crate::render::{table, template_value, vm_table};
use ignite_api::Image;
use jiff::Timestamp;

/// Flags of `image ls`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Print the objects
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Which of them, and what is printed of each.
    #[command(flatten)]
    pub selection: Selection,
}

/// Prints the table, the objects, or the ids.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let filter = Filter::parse("image", &args.selection.filter)?;
    let template = args.selection.form.parse()?;
    let now = Timestamp::now();
    let images = filter.keep(context.engine()?.list_images()?, |image| template_value::image(image, now))?;
    if let Some(template) = template {
        print_each(&template, images.iter().map(|image| template_value::image(image, now)))?;
        return Ok(0);
    }
    if context.is_quiet() {
        for uid in images.iter().filter_map(|image| image.metadata.uid.as_ref()) {
            print_line(uid)?;
        }
        return Ok(0);
    }
    print(&match args.output {
        Some(format) => document::render(&images, format)?,
        None => render(&images, now),
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
