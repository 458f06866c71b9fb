//! What makes `spec.dependsOn` invalid by itself; whether the VMs exist is known only where all of a set are.

use super::{Check, FieldProblem, quoted};
use crate::depends_on::{Dependency, MAX_DEPENDENCIES};
use crate::names;
use std::collections::BTreeSet;

/// Most words of a command.
const MAX_WORDS: usize = 256;
/// Longest word, in bytes.
const MAX_WORD_LEN: usize = 4096;

impl Check {
    pub(super) fn depends_on(&mut self, path: &str, dependencies: &[Dependency]) {
        if !self.at_most(MAX_DEPENDENCIES, path, dependencies.len()) {
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, dependency) in dependencies.iter().enumerate() {
            let at = format!("{path}[{index}]");
            let name = dependency.name.as_str();
            self.name(&format!("{at}.name"), name, names::check_vm_name(name));
            if !seen.insert(name) {
                self.push(format!("{at}.name"), FieldProblem::Duplicate(quoted(name)));
            }
            if let Some(socket) = &dependency.ready.tcp_socket {
                let reason = "must be between 1 and 65535";
                self.invalid_unless(socket.port != 0, format!("{at}.ready.tcpSocket.port"), "0".to_owned(), reason);
            }
            if let Some(exec) = &dependency.ready.exec {
                let words = &exec.command;
                let is_command = words.first().is_some_and(|program| !program.is_empty())
                    && words.len() <= MAX_WORDS
                    && words.iter().all(|word| word.len() <= MAX_WORD_LEN && !word.contains('\0'));
                let reason = "must be a program and its arguments, at most 256 words of at most 4096 bytes";
                self.invalid_unless(
                    is_command,
                    format!("{at}.ready.exec.command"),
                    format!("{} words", words.len()),
                    reason,
                );
            }
        }
    }
}
