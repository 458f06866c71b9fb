//! One verb over several objects: an error of one does not keep the others from it.

use crate::commands::print_line;
use crate::context::Context;
use crate::render::text::sanitize;
use crate::report::{self, SomeFailed};
use crate::signals::interruptible;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use ignite_api::Uid;
use ignite_engine::{Engine, EngineError};

/// Does `verb` with every VM named, at the same time; prints each name, or id when quiet, once it is done.
pub async fn for_each_vm(
    queries: &[String],
    context: &Context,
    verb: impl AsyncFn(&Engine, &Uid) -> Result<(), EngineError>,
) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let verb = &verb;
    let work = async |query: &String| {
        let uid = engine.find_vm(query)?;
        verb(engine, &uid).await?;
        Ok::<_, EngineError>(if context.is_quiet() { uid.to_string() } else { sanitize(query) })
    };
    interruptible(finish_all(queries.iter().map(work).collect(), print_line)).await
}

/// Awaits all, in order; hands over what succeeded and reports what failed.
pub async fn finish_all<T>(
    mut work: FuturesOrdered<impl Future<Output = Result<T, EngineError>>>,
    mut done: impl FnMut(T) -> std::io::Result<()>,
) -> anyhow::Result<u8> {
    let mut is_failed = false;
    while let Some(result) = work.next().await {
        match result {
            Ok(value) => done(value)?,
            Err(error) => {
                report::print(&error.into());
                is_failed = true;
            }
        }
    }
    if is_failed { Err(SomeFailed.into()) } else { Ok(0) }
}
