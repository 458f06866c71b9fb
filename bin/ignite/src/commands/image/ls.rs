//! `ignite image ls`.

use crate::commands::selection::Filter;
use crate::commands::{object_list, print};
use crate::context::Context;
use crate::render::document::{self, Format, Output};
use crate::render::{table, template_value, vm_table};
use crate::report::UsageError;
use crate::signals::interruptible;
use ignite_api::Image;
use ignite_engine::{EngineError, Freshness};
use jiff::Timestamp;
use serde::Serialize;

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
    if context.is_quiet() || args.list.output == Output::Name {
        return Err(UsageError("--check is told with the images; leave --quiet and --output name out".into()).into());
    }
    let now = Timestamp::now();
    let filter = Filter::parse("image", &args.list.selection.filter)?;
    let images = filter.keep(images, |image| template_value::image(image, now))?;
    let found = interruptible(async { Ok::<_, EngineError>(engine.ask_sources(&images).await) }).await?;
    let checked: Vec<Checked> = images.iter().zip(&found).map(|(image, found)| Checked::new(image, found)).collect();
    print(&match args.list.output {
        Output::Json => document::render(&checked, Format::Json)?,
        Output::Yaml => document::render(&checked, Format::Yaml)?,
        Output::Wide => {
            let rows = checked.iter().map(|checked| {
                let [uid, name, created, size, role, disk, digest] = wide_row(checked.image, now);
                [uid, name, created, size, role, disk, digest, checked.source.text()]
            });
            let titles = ["IMAGE ID", "NAME", "CREATED", "SIZE", "ROLE", "DISK", "DIGEST", "SOURCE"];
            table::render(titles, rows.collect())
        }
        Output::Table | Output::Name => {
            let rows = checked.iter().map(|checked| {
                let [uid, name, created, size] = row(checked.image, now);
                [uid, name, created, size, checked.source.text()]
            });
            table::render(["IMAGE ID", "NAME", "CREATED", "SIZE", "SOURCE"], rows.collect())
        }
    })?;
    Ok(0)
}

/// An image, and what its source says of it now.
#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    image: &'a Image,
    source: SourceSays<'a>,
}

#[derive(Serialize)]
struct SourceSays<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Checked<'a> {
    fn new(image: &'a Image, found: &'a Freshness) -> Checked<'a> {
        let (state, reason) = match found {
            Freshness::Current => ("current", None),
            Freshness::Stale => ("stale", None),
            Freshness::Unknown(why) => ("unknown", Some(why.as_str())),
        };
        Checked { image, source: SourceSays { state, reason } }
    }
}

impl SourceSays<'_> {
    /// `unknown: why`.
    fn text(&self) -> String {
        self.reason.map_or_else(|| self.state.to_owned(), |reason| format!("{}: {reason}", self.state))
    }
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
    let rows = images.iter().map(|image| wide_row(image, now));
    table::render(["IMAGE ID", "NAME", "CREATED", "SIZE", "ROLE", "DISK", "DIGEST"], rows.collect())
}

fn wide_row(image: &Image, now: Timestamp) -> [String; 7] {
    let [uid, name, created, size] = row(image, now);
    let role = if image.status.has_init { "machine" } else { "task" }.to_owned();
    [uid, name, created, size, role, image.status.base_size.human(), image.status.manifest_digest.clone()]
}

fn row(image: &Image, now: Timestamp) -> [String; 4] {
    [
        image.metadata.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
        image.metadata.name.clone(),
        vm_table::age(image.metadata.created, now),
        image.status.oci_source.as_ref().map(|source| source.size.human()).unwrap_or_default(),
    ]
}
