//! Users and groups of the image, from its `/etc/passwd` and `/etc/group`, as Docker looks them up.

use crate::error::LaunchError;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// Home directory; `/` when the user has no entry.
    pub home: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Finds `user[:group]`, names or numbers; the empty string is root. Lines that are not entries are skipped.
///
/// Source: moby/sys/user `GetExecUser`: the first entry with the name or number wins; an unknown number is taken as it
/// is; supplementary groups are those that list the user, unless a group is given.
pub fn find(wanted: &str, passwd: &str, group: &str) -> Result<Identity, LaunchError> {
    let (user_wanted, group_wanted) = wanted.split_once(':').unwrap_or((wanted, ""));
    let user_number = if user_wanted.is_empty() { Some(0) } else { user_wanted.parse().ok() };
    let user = users(passwd).find(|user| user.name == user_wanted || Some(user.uid) == user_number);
    let (uid, mut gid, home) = match (&user, user_number) {
        (Some(user), _) => (user.uid, user.gid, user.home),
        (None, Some(number)) => (number, 0, ""),
        (None, None) => return Err(LaunchError::NoUser(user_wanted.to_owned())),
    };
    let mut supplementary = Vec::new();
    if group_wanted.is_empty() {
        if let Some(user) = &user {
            let lists_user = |group: &Group<'_>| group.members.split(',').any(|member| member == user.name);
            supplementary = groups(group).filter(lists_user).map(|group| group.gid).collect();
        }
    } else {
        let number = group_wanted.parse().ok();
        let found = groups(group).find(|group| match number {
            Some(number) => group.gid == number,
            None => group.name == group_wanted,
        });
        gid = found.map(|group| group.gid).or(number).ok_or_else(|| LaunchError::NoGroup(group_wanted.to_owned()))?;
    }
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    Ok(Identity { uid, gid, groups: supplementary, home })
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(User { name, uid, gid, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\nbroken\ndaemon:x:1:1::/usr/sbin:/bin/false\n\
                          redis:x:100:101:,,,:/var/lib/redis:/bin/false\n1000:x:7:7::/seven:/bin/sh\nnohome:x:8:8\n";
    const GROUP: &str = "root:x:0:\nbad\ndaemon:x:1:redis,other\nredis:x:101:\naudio:x:29:other,redis\nx:x:44:redis2\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let table = [
            ("", identity(0, 0, &[], "/root")),
            ("root", identity(0, 0, &[], "/root")),
            ("redis", identity(100, 101, &[1, 29], "/var/lib/redis")),
            ("100", identity(100, 101, &[1, 29], "/var/lib/redis")),
            ("redis:daemon", identity(100, 1, &[], "/var/lib/redis")),
            ("redis:29", identity(100, 29, &[], "/var/lib/redis")),
            ("redis:4242", identity(100, 4242, &[], "/var/lib/redis")),
            ("4711", identity(4711, 0, &[], "/")),
            ("4711:4712", identity(4711, 4712, &[], "/")),
            // A name made of digits wins over the number when it comes first.
            ("1000", identity(7, 7, &[], "/seven")),
            ("nohome", identity(8, 8, &[], "/")),
            (":audio", identity(0, 29, &[], "/root")),
        ];
        for (wanted, expected) in table {
            assert_eq!(find(wanted, PASSWD, GROUP).unwrap(), expected, "{wanted}");
        }
    }

    #[test]
    fn unknown_names_are_errors_of_the_set_up() {
        let error = find("nobody", PASSWD, GROUP).unwrap_err();
        assert!(matches!(error, LaunchError::NoUser(_)));
        assert_eq!(error.exit_code(), 125);
        assert!(matches!(find("redis:wheel", PASSWD, GROUP), Err(LaunchError::NoGroup(_))));
        assert!(matches!(find("-1", PASSWD, GROUP), Err(LaunchError::NoUser(_))));
    }

    #[test]
    fn root_needs_no_files() {
        assert_eq!(find("", "", "").unwrap(), identity(0, 0, &[], "/"));
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_look_up_panic(wanted in ".{0,12}", passwd in "(.{0,40}\n){0,6}", group in "(.{0,40}\n){0,6}") {
            let _ = find(&wanted, &passwd, &group);
        }
    }
}
