//! What inspecting an image and a kernel have in common: a template, or a format.

use crate::commands::print;
use crate::commands::selection::{Form, print_each};
use crate::render::document::Output;
use ignite_api::ApiObject;
use ignite_template::Value;
use jiff::Timestamp;
use serde::Serialize;

/// How one object is shown.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Output,
    /// What is printed instead.
    #[command(flatten)]
    pub form: Form,
}

/// Prints what the template says of the object that `find` gives, else the object.
pub fn show<T: ApiObject + Serialize>(
    args: &Args,
    find: impl FnOnce() -> anyhow::Result<T>,
    value: impl Fn(&T, Timestamp) -> Value,
    table: impl Fn(&[T], Timestamp, bool) -> String,
) -> anyhow::Result<u8> {
    let template = args.form.parse()?;
    let (object, now) = (find()?, Timestamp::now());
    match template {
        Some(template) => print_each(&template, [value(&object, now)])?,
        None => print(&args.output.one(&object, now, table)?)?,
    }
    Ok(0)
}
