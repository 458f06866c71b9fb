//! `--volumes`: disks of the host, and where they are mounted.

use crate::report::UsageError;
use ignite_api::Size;
use ignite_api::vm::{BlockDevice, DiskFile, DiskFormat, StorageSpec, Volume, VolumeMount};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// `HOST[:GUEST][:ro][:size=SIZE][:format=ext4]`, named `volume0`, `volume1`, … as Weave Ignite names them.
pub fn parse_volumes(texts: &[String], working_dir: &Path) -> Result<StorageSpec, UsageError> {
    let mut storage = StorageSpec::default();
    for (index, text) in texts.iter().enumerate() {
        let name = format!("volume{index}");
        let (volume, mount) = parse_volume(text, name, working_dir)
            .map_err(|reason| UsageError(format!("invalid --volumes {text:?}: {reason}")))?;
        storage.volumes.push(volume);
        storage.volume_mounts.extend(mount);
    }
    Ok(storage)
}

fn parse_volume(text: &str, name: String, working_dir: &Path) -> Result<(Volume, Option<VolumeMount>), String> {
    let mut words = text.split(':');
    let host = words.next().filter(|host| !host.is_empty()).ok_or("it names no disk of the host")?;
    let path = working_dir.join(host);
    let path = path.to_str().ok_or("its path is not UTF-8")?.to_owned();
    let (mut mount, mut read_only, mut size, mut format) = (None, false, None, None);
    for word in words {
        match word.split_once('=') {
            None if word.starts_with('/') && mount.is_none() => mount = Some(word.to_owned()),
            None if word == "ro" => read_only = true,
            None if word == "rw" => read_only = false,
            Some(("size", value)) => size = Some(value.parse::<Size>().map_err(|error| error.to_string())?),
            Some(("format", "ext4")) => format = Some(DiskFormat::Ext4),
            Some(("format", other)) => return Err(format!("format={other} is not known: ext4 is")),
            _ => {
                let reason = "volumes must be specified in the /host/path:/vm/path format, with :ro, :size=SIZE or \
                              :format=ext4 after it";
                return Err(reason.to_owned());
            }
        }
    }
    let is_device = path.starts_with("/dev/")
        || std::fs::metadata(&path).is_ok_and(|metadata| metadata.file_type().is_block_device());
    if is_device && size.is_some() {
        return Err("a device has its size".to_owned());
    }
    if read_only && format.is_some() {
        return Err("what is only read is not formatted".to_owned());
    }
    let volume = match is_device {
        true => Volume { name, block_device: Some(BlockDevice { path, format }), file: None, read_only },
        false => {
            // Who says how large it is asks for a new disk; one that is to be mounted needs a file system.
            let is_new = size.is_some() && mount.is_some();
            let format = format.or(is_new.then_some(DiskFormat::Ext4));
            Volume { name, block_device: None, file: Some(DiskFile { path, size, format }), read_only }
        }
    };
    let mount = mount.map(|mount_path| VolumeMount { name: volume.name.clone(), mount_path, read_only: false });
    Ok((volume, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> String {
        match parse_volumes(&[text.to_owned()], Path::new("/here")) {
            Err(error) => format!("error: {}", error.0),
            Ok(storage) => {
                let volume = &storage.volumes[0];
                let kind = if volume.block_device.is_some() { "device" } else { "file" };
                let form = |format: Option<DiskFormat>| if format.is_some() { "ext4" } else { "as it is" };
                let made = match (&volume.file, &volume.block_device) {
                    (Some(file), _) => {
                        let size = file.size.map_or("-".to_owned(), |size| size.to_string());
                        format!(" {size} {}", form(file.format))
                    }
                    (None, device) => format!(" {}", form(device.as_ref().and_then(|device| device.format))),
                };
                let mount = storage.volume_mounts.first().map_or("nowhere", |mount| mount.mount_path.as_str());
                let mode = if volume.read_only { "ro" } else { "rw" };
                format!("{kind} {}{made} at {mount} {mode}", volume.host_path().unwrap_or_default())
            }
        }
    }

    #[test]
    fn every_form_has_its_meaning() {
        for (text, expected) in [
            ("/dev/sdb1:/mnt", "device /dev/sdb1 as it is at /mnt rw"),
            ("/dev/sdb1", "device /dev/sdb1 as it is at nowhere rw"),
            ("/dev/sdb1:/mnt:ro", "device /dev/sdb1 as it is at /mnt ro"),
            ("/dev/sdb1:/mnt:format=ext4", "device /dev/sdb1 ext4 at /mnt rw"),
            ("data.img:format=ext4", "file /here/data.img - ext4 at nowhere rw"),
            ("data.img:/data", "file /here/data.img - as it is at /data rw"),
            ("data.img:/data:size=1GB", "file /here/data.img 1GB ext4 at /data rw"),
            ("data.img:size=1GB", "file /here/data.img 1GB as it is at nowhere rw"),
            ("/srv/data.img:ro", "file /srv/data.img - as it is at nowhere ro"),
        ] {
            assert_eq!(described(text), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for text in [
            "",
            ":/mnt",
            "/dev/a:/b:/c",
            "a:b",
            "a:/b:size=many",
            "/dev/a:/b:size=1GB",
            "a:/b:exec",
            "a:/b:format=xfs",
            "a:ro:format=ext4",
        ] {
            assert!(described(text).starts_with("error: invalid --volumes"), "{text}");
        }
    }

    #[test]
    fn they_are_named_in_order() {
        let texts = ["/dev/a:/a".to_owned(), "/dev/b".to_owned(), "/dev/c:/c".to_owned()];
        let storage = parse_volumes(&texts, Path::new("/")).unwrap();
        let names: Vec<&str> = storage.volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["volume0", "volume1", "volume2"]);
        let mounted: Vec<&str> = storage.volume_mounts.iter().map(|mount| mount.name.as_str()).collect();
        assert_eq!(mounted, ["volume0", "volume2"]);
    }
}
