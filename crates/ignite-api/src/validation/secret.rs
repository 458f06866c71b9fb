//! Files of a guest, and values from files outside of a manifest.

use super::{Check, MAX_ITEMS, MAX_PATH_LEN, quoted};
use crate::secret::{GuestFile, MAX_CONTENT_LEN, ValueFrom};
use std::collections::BTreeSet;
use std::path::{Component, Path};

impl Check {
    pub(super) fn files(&mut self, path: &str, files: &[GuestFile]) {
        if !self.at_most(MAX_ITEMS, path, files.len()) {
            return;
        }
        let mut targets = BTreeSet::new();
        for (index, file) in files.iter().enumerate() {
            let at = |field: &str| format!("{path}[{index}].{field}");
            self.path(at("path"), &file.path);
            self.unique(&mut targets, at("path"), &file.path);
            let len = file.content.len();
            self.invalid_unless(len <= MAX_CONTENT_LEN, at("content"), format!("{len} bytes"), "must be at most 1 MB");
            if let Some(mode) = file.mode.as_deref().filter(|_| file.mode_bits().is_none()) {
                self.invalid_unless(false, at("mode"), quoted(mode), "must be octal and at most 7777, as in \"0600\"");
            }
            self.value_from(&at("valueFrom"), file.value_from.as_ref(), file.content.is_empty(), "content");
        }
    }

    /// A name below the directory of secrets: whoever writes a manifest must not read other files of the host.
    pub(super) fn value_from(&mut self, path: &str, from: Option<&ValueFrom>, is_alone: bool, other: &str) {
        let Some(from) = from else { return };
        let reason = format!("must not stand beside {other}");
        self.invalid_unless(is_alone, path, quoted(&from.file), reason);
        let is_below = Path::new(&from.file).components().all(|part| matches!(part, Component::Normal(_)));
        let is_name =
            !from.file.is_empty() && from.file.len() <= MAX_PATH_LEN && !from.file.chars().any(char::is_control);
        let reason = "must be a path below the directory of secrets, without a leading '/' and without '..'";
        self.invalid_unless(is_below && is_name, format!("{path}.file"), quoted(&from.file), reason);
    }
}
