//! Platforms: the host's, and the choice among those an index offers.

use std::fmt;
use std::str::FromStr;

/// Operating system and processor an image is made for, in Go's names (OCI image-spec 1.1, image-index.md "platform").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, `v8`, ...; absent: any.
    pub variant: Option<String>,
}

impl Platform {
    /// What runs here: Linux on the processor this program was built for.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether the kernels that run here run programs of this platform, too. The agent brings its own.
    pub fn runs_here(&self) -> bool {
        let host = Platform::host();
        let is_older_self = (host.architecture.as_str(), self.architecture.as_str()) == ("amd64", "386");
        self.os == host.os && (self.architecture == host.architecture || is_older_self)
    }

    /// Whether what was made for `offered` is what is asked for.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.fit(offered).is_some()
    }

    /// How well `offered` fits, lower is better; `None` when it does not.
    pub(crate) fn fit(&self, offered: &Platform) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let default = match self.architecture.as_str() {
            "arm64" => "v8",
            "arm" => "v7",
            "amd64" => "v1",
            _ => "",
        };
        let version = |variant: &Option<String>| -> Option<u32> {
            let variant = variant.as_deref().filter(|text| !text.is_empty()).unwrap_or(default);
            variant.strip_prefix('v').unwrap_or("0").split('.').next().and_then(|number| number.parse().ok())
        };
        // A processor runs what was made for its own and for older versions of the architecture.
        version(&self.variant)?.checked_sub(version(&offered.variant)?)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = &'static str;
    /// `linux/arm64`, `linux/arm/v7`, or only the architecture.
    fn from_str(text: &str) -> Result<Platform, &'static str> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            part.len() <= 32
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !parts.iter().all(is_word) {
            return Err("a platform is written OS/ARCHITECTURE[/VARIANT], for example linux/arm64");
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
            _ => return Err("a platform has at most three parts: OS/ARCHITECTURE/VARIANT"),
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_here_is_of_this_kind_of_processor() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(Platform::host().runs_here());
        assert_eq!(platform("linux/386").runs_here(), matches!(std::env::consts::ARCH, "x86_64" | "x86"));
        for foreign in ["linux/s390x", "windows/amd64", "windows/arm64"] {
            assert!(!platform(foreign).runs_here(), "{foreign}");
        }
        assert!(platform("linux/arm64").accepts(&platform("linux/arm64/v8")));
        assert!(!platform("linux/arm64").accepts(&platform("linux/amd64")));
    }

    #[test]
    fn a_platform_fits_its_own_and_older_variants() {
        let fit = |wanted: &str, offered: &str| {
            wanted.parse::<Platform>().unwrap().fit(&offered.parse::<Platform>().unwrap())
        };
        assert_eq!(fit("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(fit("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(fit("linux/arm64/v8", "linux/arm64"), Some(0));
        assert_eq!(fit("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(fit("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(fit("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(fit("linux/amd64/v3", "linux/amd64/v2"), Some(1));
        assert_eq!(fit("linux/amd64", "windows/amd64"), None);
        assert_eq!(fit("linux/amd64", "linux/arm64"), None);
        assert_eq!(fit("linux/riscv64", "linux/riscv64"), Some(0));
    }

    #[test]
    fn platforms_are_parsed() {
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
        assert_eq!("linux/arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
