//! The Landlock ruleset of a jail: made by the parent, put in force by the child.

use super::spec::{JailSpec, Share, ShareAccess};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The newest rights asked for; an older kernel gives those it has.
const NEWEST: ABI = ABI::V6;

/// The ruleset, or why there is none.
pub(super) fn ruleset(spec: &JailSpec) -> Result<OwnedFd, String> {
    let made = make(spec).map_err(|error| error.to_string())?;
    Option::<OwnedFd>::from(made).ok_or_else(|| "the kernel has no landlock".to_owned())
}

fn make(spec: &JailSpec) -> Result<RulesetCreated, landlock::RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for share in &spec.shares {
        // What is not there is not shared. A link is followed here, and is a share of its own target.
        if let Ok(path) = PathFd::new(&share.path) {
            rules = rules.add_rule(PathBeneath::new(path, rights(share)))?;
        }
    }
    for number in &spec.reopened {
        // SAFETY: the caller keeps its inherited descriptors open while the jail is made.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        if let Ok(mut same) = rules.try_clone() {
            // A file in memory has no path and is not restricted: the kernel refuses a rule for it.
            let _ = (&mut same).add_rule(PathBeneath::new(fd, AccessFs::ReadFile));
        }
    }
    Ok(rules)
}

fn rights(share: &Share) -> BitFlags<AccessFs> {
    let of_files = AccessFs::from_file(NEWEST);
    let rights = match share.access {
        ShareAccess::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        ShareAccess::Execute => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute,
        ShareAccess::Write => {
            AccessFs::from_all(NEWEST)
                & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
        }
        ShareAccess::Device => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
    };
    // Rights over directories mean nothing for a file, and are refused.
    if share.path.is_dir() { rights } else { rights & of_files }
}
