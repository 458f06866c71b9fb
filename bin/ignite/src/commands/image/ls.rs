//! `ignite image ls`.

use crate::commands::object_list;
use crate::context::Context;
use crate::render::{table, template_value, vm_table};
use ignite_api::Image;
use jiff::Timestamp;

pub use crate::commands::object_list::Args;

/// Prints the table, the objects, or the ids.
pub fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let images = context.engine()?.list_images()?;
    object_list::show(&args, context, "image", images, template_value::image, render)
}

/// The table of them; `is_wide`: with more columns.
pub fn render(images: &[Image], now: Timestamp, is_wide: bool) -> String {
    if is_wide {
        return render_wide(images, now);
    }

    table::render(["IMAGE ID", "NAME", "CREATED", "SIZE"], images.iter().map(|image| row(image, now)).collect())
}

/// The same, and what the image is made of.
fn render_wide(images: &[Image], now: Timestamp) -> String {
    let rows = images.iter().map(|image| {
        let [uid, name, created, size] = row(image, now);
        let init = if image.status.has_init { "machine" } else { "task" }.to_owned();
        [uid, name, created, size, init, image.status.base_size.human(), image.status.manifest_digest.clone()]
    });
    table::render(["IMAGE ID", "NAME", "CREATED", "SIZE", "ROLE", "DISK", "DIGEST"], rows.collect())
}

fn row(image: &Image, now: Timestamp) -> [String; 4] {
    [
        image.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
        image.metadata.name.clone(),
        vm_table::age(image.metadata.created, now),
        image.status.oci_source.as_ref().map(|source| source.size.human()).unwrap_or_default(),
    ]
}
