//! The image configuration: what runs, for which platform, over which layers (OCI image-spec 1.1, config.md).

use crate::limits::MAX_CONFIG_BYTES;
use crate::{OciError, Platform};
use ignite_api::health::{HealthCheck, HealthTest, MAX_TIME, MIN_TIME, Time};
use ignite_api::image::ImageConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// An image's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Configuration {
    pub(crate) config: ImageConfig,
    pub(crate) platform: Option<Platform>,
    pub(crate) diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// Docker writes `null` for whatever is not set.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, Option<String>>>,
    stop_signal: Option<String>,
    healthcheck: Option<RawHealthcheck>,
}

/// Docker's `HealthcheckConfig` (Docker image spec 1.2): times in nanoseconds, 0 for what is not set.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealthcheck {
    test: Option<Vec<String>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    start_interval: Option<i64>,
    retries: Option<i64>,
}

impl RawHealthcheck {
    /// A health check that makes no sense is left out: the image runs without it, as it does with programs that know none.
    fn into_check(self) -> Option<HealthCheck> {
        let time = |nanos: Option<i64>| {
            let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0)?;
            Some(Time(Duration::from_nanos(nanos).clamp(MIN_TIME, MAX_TIME)))
        };
        let test = HealthTest::from_words(self.test.unwrap_or_default()).ok()??;
        let has_nul = test.words().iter().any(|word| word.contains('\0'));
        (!has_nul).then_some(HealthCheck {
            test: Some(test),
            tcp: None,
            interval: time(self.interval),
            timeout: time(self.timeout),
            retries: self.retries.and_then(|retries| u32::try_from(retries).ok()).filter(|retries| *retries > 0),
            start_period: time(self.start_period),
            start_interval: time(self.start_interval),
        })
    }
}

/// A command: a list, or one word as early Docker wrote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    One(String),
}

impl Words {
    fn into_list(words: Option<Words>) -> Vec<String> {
        match words {
            Some(Words::List(list)) => list,
            Some(Words::One(word)) if word.is_empty() => Vec::new(),
            Some(Words::One(word)) => vec![word],
            None => Vec::new(),
        }
    }
}

/// Parses the configuration of `image`, which has `layers` layers.
pub(crate) fn parse_configuration(bytes: &[u8], layers: usize, image: &str) -> Result<Configuration, OciError> {
    let what = || format!("configuration of {image}");
    let invalid = |reason: String| OciError::InvalidDocument { what: what(), reason };
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(OciError::TooLarge { what: what(), limit_bytes: MAX_CONFIG_BYTES });
    }
    let raw: RawConfiguration = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers {
        return Err(invalid(format!("it lists {} layers, the manifest {layers}", diff_ids.len())));
    }
    for diff_id in &diff_ids {
        diff_id.parse::<crate::digest::Digest>()?;
    }
    let run = raw.config.unwrap_or_default();
    let env = run.env.unwrap_or_default().into_iter().filter(|entry| !entry.is_empty() && !entry.starts_with('='));
    let config = ImageConfig {
        entrypoint: Words::into_list(run.entrypoint),
        cmd: Words::into_list(run.cmd),
        env: env.map(|entry| if entry.contains('=') { entry } else { entry + "=" }).collect(),
        user: run.user.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default(),
        exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
        labels: run.labels.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect(),
        stop_signal: run.stop_signal.unwrap_or_default(),
        healthcheck: run.healthcheck.and_then(RawHealthcheck::into_check),
    };
    if let Some(member) = member_with_nul(&config) {
        return Err(invalid(format!("{member} has a NUL character")));
    }
    let platform = match (raw.os, raw.architecture) {
        (Some(os), Some(architecture)) if !os.is_empty() && !architecture.is_empty() => {
            Some(Platform { os, architecture, variant: raw.variant.filter(|variant| !variant.is_empty()) })
        }
        _ => None,
    };
    Ok(Configuration { config, platform, diff_ids })
}

/// No argument, variable or path of a process can hold NUL: such a text would be cut short in silence later.
fn member_with_nul(config: &ImageConfig) -> Option<&'static str> {
    let has_nul = |text: &String| text.contains('\0');
    [
        ("Entrypoint", config.entrypoint.iter().any(has_nul)),
        ("Cmd", config.cmd.iter().any(has_nul)),
        ("Env", config.env.iter().any(has_nul)),
        ("User", has_nul(&config.user)),
        ("WorkingDir", has_nul(&config.working_dir)),
        ("StopSignal", has_nul(&config.stop_signal)),
    ]
    .into_iter()
    .find_map(|(member, found)| found.then_some(member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIFF: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_docker_writes_is_read() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","variant":"","container":"x","config":{{
            "Hostname":"","User":"redis","ExposedPorts":{{"6379/tcp":{{}}}},"Env":["PATH=/bin","BARE","=x"],
            "Cmd":null,"Entrypoint":["/entry"],"WorkingDir":"/data","Labels":{{"a":"b","n":null}},"Volumes":null,
            "OnBuild":null,"StopSignal":"SIGINT","Healthcheck":{{"Test":["CMD-SHELL","true"],"Interval":2000000000,"Retries":4,"Timeout":0}}}},"rootfs":{{"type":"layers","diff_ids":["{DIFF}"]}},"history":[]}}"#
        );
        let configuration = parse_configuration(text.as_bytes(), 1, "test").unwrap();
        assert_eq!(configuration.platform.unwrap().to_string(), "linux/amd64");
        assert_eq!(configuration.diff_ids, [DIFF]);
        let config = configuration.config;
        assert_eq!(config.entrypoint, ["/entry"]);
        assert!(config.cmd.is_empty());
        assert_eq!(config.env, ["PATH=/bin", "BARE="]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("redis", "/data"));
        assert_eq!(config.exposed_ports, ["6379/tcp"]);
        assert_eq!(config.labels["n"], "");
        assert_eq!(config.stop_signal, "SIGINT");
        let check = config.healthcheck.clone().unwrap();
        assert_eq!(check.test, Some(HealthTest::Shell("true".into())));
        assert_eq!((check.interval, check.timeout), (Some(Time(Duration::from_secs(2))), None));
        assert_eq!(check.retries, Some(4));
    }

    #[test]
    fn lies_are_refused() {
        let rootfs = |ids: &str| format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#);
        for (text, layers, reason) in [
            (rootfs(""), 1, "it lists 0 layers, the manifest 1"),
            (rootfs(r#""sha256:xx""#), 1, "invalid digest"),
            (r#"{"config":{"Cmd":["a\u0000b"]},"rootfs":{}}"#.to_owned(), 0, "Cmd has a NUL"),
            ("{}".to_owned(), 0, "missing field `rootfs`"),
            ("[".to_owned(), 0, "EOF"),
        ] {
            let error = parse_configuration(text.as_bytes(), layers, "test").unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0usize..3) {
            let _ = parse_configuration(&bytes, n, "test");
        }

        #[test]
        fn foreign_json_never_panics(key in "(Env|Cmd|Labels|User|ExposedPorts)", value in "(null|1|\"a\"|\\[\"a\",1\\]|\\{\"a\":\\{\\}\\})") {
            let text = format!(r#"{{"config":{{"{key}":{value}}},"rootfs":{{"diff_ids":[]}}}}"#);
            let _ = parse_configuration(text.as_bytes(), 0, "test");
        }
    }
}
