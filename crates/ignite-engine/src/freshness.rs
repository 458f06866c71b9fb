//! Whether imported images still are what their sources have by these names.

use crate::engine::Engine;
use futures_util::StreamExt;
use ignite_api::{Image, ImageSource, chain_of};
use ignite_oci::{OciError, PullOptions};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Sources asked at a time.
const PARALLEL: usize = 8;
/// When those that have not answered are given up, all together.
const DEADLINE: Duration = Duration::from_secs(20);

/// What an image's source says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// It is what was imported.
    Current,
    /// Its name means something else now.
    Stale,
    /// Why nobody can tell.
    Unknown(String),
}

impl Engine {
    /// Asks the sources of these images, without fetching any; the answers are in the order of the images.
    pub async fn ask_sources(&self, images: &[Image]) -> Vec<Freshness> {
        // A list is not worth a pull's patience.
        let options = PullOptions { retries: 1, connect_timeout: Duration::from_secs(5), ..self.pull_options() };
        let options = &options;
        let ask = async |source: ImageSource| ignite_oci::resolve_digest(&source, options).await;
        check_all(images, DEADLINE, ask).await
    }
}

async fn check_all(
    images: &[Image],
    deadline: Duration,
    ask: impl AsyncFn(ImageSource) -> Result<String, OciError>,
) -> Vec<Freshness> {
    let (end, ask) = (Instant::now() + deadline, &ask);
    let checks = images.iter().map(|image| async move {
        let Some(source) = image.spec.oci.clone() else {
            return Freshness::Unknown("nobody knows where it came from".to_owned());
        };
        match timeout_at(end, ask(source)).await {
            Ok(Ok(digest)) if imported_digest(image) == Some(digest.as_str()) => Freshness::Current,
            Ok(Ok(_)) => Freshness::Stale,
            Ok(Err(OciError::DigestNeedsReading { .. })) => {
                Freshness::Unknown("an archive tells only when it is imported again".to_owned())
            }
            Ok(Err(error)) => Freshness::Unknown(on_one_line(&error)),
            Err(_) => Freshness::Unknown(format!("no answer within {} s", deadline.as_secs())),
        }
    });
    futures_util::stream::iter(checks).buffered(PARALLEL).collect().await
}

fn imported_digest(image: &Image) -> Option<&str> {
    Some(image.status.oci_source.as_ref()?.id.rsplit_once('@')?.1)
}

/// An error and its causes.
fn on_one_line(error: &OciError) -> String {
    let text = chain_of(error);
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ignite_api::ObjectMeta;
    use ignite_api::image::{ImageStatus, OciSourceStatus};
    use ignite_api::vm::OciSource;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn image(source: &str, digest: &str) -> Image {
        let id = format!("oci://{source}@{digest}");
        let oci_source = Some(OciSourceStatus { id, ..Default::default() });
        let status = ImageStatus { oci_source, ..Default::default() };
        Image::new(ObjectMeta::default(), OciSource { oci: Some(source.parse().unwrap()) }, status)
    }

    #[tokio::test]
    async fn every_image_gets_its_own_answer_in_order() {
        let mut images =
            ["same", "moved", "gone", "silent", "docker-archive:/x.tar"].map(|name| image(name, "d")).to_vec();
        images.push(Image::new(ObjectMeta::default(), OciSource::default(), ImageStatus::default()));
        let ask = async |source: ImageSource| match source.to_string() {
            name if name.contains("same") => Ok("d".to_owned()),
            name if name.contains("moved") => Ok("e".to_owned()),
            name if name.contains("silent") => std::future::pending().await,
            name if name.contains("archive") => Err(OciError::DigestNeedsReading { location: name }),
            name => Err(OciError::NotFound { reference: format!("{name}\n  or so") }),
        };
        let found = check_all(&images, Duration::from_secs(1), ask).await;
        assert_eq!(found[..2], [Freshness::Current, Freshness::Stale]);
        let why = |index: usize| match &found[index] {
            Freshness::Unknown(why) => why.as_str(),
            other => panic!("{other:?}"),
        };
        assert!(why(2).contains("gone") && !why(2).contains('\n'), "{}", why(2));
        assert_eq!(why(3), "no answer within 1 s");
        assert!(why(4).contains("archive"));
        assert!(why(5).contains("where it came from"));
    }

    #[tokio::test]
    async fn few_are_asked_at_a_time_and_one_deadline_is_for_all() {
        let images = vec![image("silent", "d"); 5 * PARALLEL];
        let (token, most) = (Arc::new(()), AtomicUsize::new(0));
        let ask = async |_| {
            let _asking = token.clone();
            most.fetch_max(Arc::strong_count(&token) - 1, Ordering::SeqCst);
            std::future::pending().await
        };
        let begun = Instant::now();
        let found = check_all(&images, Duration::from_secs(1), ask).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "a deadline for each");
        assert_eq!(most.into_inner(), PARALLEL);
        assert!(found.iter().all(|found| matches!(found, Freshness::Unknown(_))));
    }
}
