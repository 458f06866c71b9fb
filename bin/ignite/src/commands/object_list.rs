//! What the lists of images and of kernels have in common: filters, templates, formats, and ids with `-q`.

use crate::commands::selection::{Filter, Selection, print_each};
use crate::commands::{print, print_line};
use crate::context::Context;
use crate::render::document::Output;
use ignite_api::ApiObject;
use ignite_template::Value;
use jiff::Timestamp;
use serde::Serialize;

/// Flags of a list.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Which of them, and what is printed of each.
    #[command(flatten)]
    pub selection: Selection,
}

/// Prints the objects that the filter keeps: what the template says of each, their ids, the objects, or
/// the table, whose last argument asks for more columns.
pub fn show<T: ApiObject + Serialize>(
    args: &Args,
    context: &Context,
    kind: &'static str,
    objects: Vec<T>,
    value: impl Fn(&T, Timestamp) -> Value,
    table: impl Fn(&[T], Timestamp, bool) -> String,
) -> anyhow::Result<u8> {
    let filter = Filter::parse(kind, &args.selection.filter)?;
    let template = args.selection.form.parse()?;
    let now = Timestamp::now();
    let objects = filter.keep(objects, |object| value(object, now))?;
    if let Some(template) = template {
        print_each(&template, objects.iter().map(|object| value(object, now)))?;
        return Ok(0);
    }
    if context.is_quiet() {
        for uid in objects.iter().filter_map(|object| object.metadata().uid.as_ref()) {
            print_line(uid)?;
        }
        return Ok(0);
    }
    print(&args.output.list(&objects, now, table)?)?;
    Ok(0)
}
