//! `ignite inspect`: an object as it is stored and observed.

use crate::commands::selection::{Form, print_each};
use crate::commands::{image, kernel, print};
use crate::context::Context;
use crate::render::document::Output;
use crate::render::{template_value, vm_table};
use crate::report::UsageError;
use crate::signals::interruptible;
use ignite_engine::{Engine, EngineError, ErrorKind};
use ignite_template::Value;
use jiff::Timestamp;

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ignite inspect [OPTIONS] [vm|image|kernel] OBJECT")]
pub struct Args {
    /// How it is shown
    #[arg(short, long, value_enum, default_value = "json", value_name = "FORMAT")]
    pub output: Output,
    /// What is printed instead.
    #[command(flatten)]
    pub form: Form,
    /// Kind (vm, image or kernel; without it, the first of them that has such an object) and its name or id
    #[arg(required = true, num_args = 1..=2, value_name = "OBJECT")]
    pub kind_and_object: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Vm,
    Image,
    Kernel,
}

const KINDS: [(&str, Kind); 3] = [("vm", Kind::Vm), ("image", Kind::Image), ("kernel", Kind::Kernel)];

/// Prints the object.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let template = args.form.parse()?;
    let engine = context.engine()?;
    let (kinds, query) = match args.kind_and_object.as_slice() {
        [kind, object] => (vec![parse_kind(kind)?], object),
        [object] => (KINDS.map(|(_, kind)| kind).to_vec(), object),
        _ => return Err(UsageError("one object is expected".into()).into()),
    };
    let (value, text) = interruptible(first(engine, &kinds, query, args.output)).await?;
    match template {
        Some(template) => print_each(&template, [value])?,
        None => print(&text)?,
    }
    Ok(0)
}

/// The first kind that has the object; what is wrong with the first is told when none has.
async fn first(engine: &Engine, kinds: &[Kind], query: &str, output: Output) -> anyhow::Result<(Value, String)> {
    let mut missing = None;
    for kind in kinds {
        match inspect(engine, *kind, query, output).await {
            Err(error) if is_not_found(&error) => missing = missing.or(Some(error)),
            found => return found,
        }
    }
    Err(missing.unwrap_or_else(|| anyhow::anyhow!("there is no kind to look in")))
}

/// The object as templates see it, and as `--output` shows it.
async fn inspect(engine: &Engine, kind: Kind, query: &str, output: Output) -> anyhow::Result<(Value, String)> {
    let now = Timestamp::now();
    Ok(match kind {
        Kind::Vm => {
            let vm = engine.inspect(&engine.find_vm(query)?).await?;
            (template_value::vm(&vm, now), output.one(&vm, now, vm_table::render)?)
        }
        Kind::Image => {
            let image = engine.inspect_image(&engine.find_image(query)?)?;
            (template_value::image(&image, now), output.one(&image, now, image::ls::render)?)
        }
        Kind::Kernel => {
            let kernel = engine.inspect_kernel(&engine.find_kernel(query)?)?;
            (template_value::kernel(&kernel, now), output.one(&kernel, now, kernel::ls::render)?)
        }
    })
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<EngineError>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

fn parse_kind(text: &str) -> Result<Kind, UsageError> {
    let found = KINDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found
        .map(|(_, kind)| *kind)
        .ok_or_else(|| UsageError(format!("unrecognized kind: {text:?}; it is vm, image or kernel")))
}
