//! `ignite image ls`.

use crate::commands::selection::Filter;
use crate::commands::{object_list, print};
use crate::context::Context;
use crate::render::document::Output;
use crate::render::{table, template_value, vm_table};
use crate::report::UsageError;
use crate::signals::interruptible;
use ignite_api::Image;
use ignite_engine::{EngineError, Freshness};
use jiff::Timestamp;

/// Flags of `image ls`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Ask where they came from whether their names still mean the same: current, stale or unknown
    #[arg(long, conflicts_with = "template")]
    pub check: bool,
    /// Which are shown, and how.
    #[command(flatten)]
    pub list: object_list::Args,
}

/// Prints the table, the objects, or the ids.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let images = engine.list_images()?;
    if !args.check {
        return object_list::show(&args.list, context, "image", images, template_value::image, render);
    }
    if context.is_quiet() || args.list.output != Output::Table {
        return Err(UsageError("--check adds a column to the table; leave --output and --quiet out".into()).into());
    }
    let now = Timestamp::now();
    let filter = Filter::parse("image", &args.list.selection.filter)?;
    let images = filter.keep(images, |image| template_value::image(image, now))?;
    let found = interruptible(async { Ok::<_, EngineError>(engine.ask_sources(&images).await) }).await?;
    let rows = images.iter().zip(found).map(|(image, found)| {
        let [uid, name, created, size] = row(image, now);
        let found = match found {
            Freshness::Current => "current".to_owned(),
            Freshness::Stale => "stale".to_owned(),
            Freshness::Unknown(why) => format!("unknown: {why}"),
        };
        [uid, name, created, size, found]
    });
    print(&table::render(["IMAGE ID", "NAME", "CREATED", "SIZE", "SOURCE"], rows.collect()))?;
    Ok(0)
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
