//! `--runtime`: where an image comes from when its reference does not say so.

use ignite_api::ImageSource;

/// Sources of pulls, by Weave Ignite's names for its runtimes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Runtime {
    /// A registry
    #[default]
    Registry,
    /// The images of containerd
    Containerd,
    /// The images of Docker
    Docker,
}

impl Runtime {
    /// A bare reference becomes one of this source; what names its transport stays.
    pub fn apply(self, source: ImageSource) -> ImageSource {
        match (self, source) {
            (Runtime::Containerd, ImageSource::Registry(reference)) => ImageSource::Containerd(reference),
            (Runtime::Docker, ImageSource::Registry(reference)) => ImageSource::DockerDaemon(reference),
            (_, source) => source,
        }
    }

    /// Reads an argument: `docker://REF` is a registry's whatever the runtime is.
    pub fn apply_to_argument(self, text: &str, source: ImageSource) -> ImageSource {
        if text.starts_with("docker://") { source } else { self.apply(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_reference_depends_on_the_runtime() {
        for (runtime, text, expected) in [
            (Runtime::Registry, "redis", "redis"),
            (Runtime::Docker, "redis", "docker-daemon:redis"),
            (Runtime::Containerd, "redis:7", "containerd:redis:7"),
            (Runtime::Docker, "docker://redis", "redis"),
            (Runtime::Docker, "containerd:redis", "containerd:redis"),
            (Runtime::Docker, "oci:/d:v", "oci:/d:v"),
        ] {
            let found = runtime.apply_to_argument(text, text.parse().unwrap());
            assert_eq!(found, expected.parse().unwrap(), "{runtime:?} {text}");
        }
    }
}
