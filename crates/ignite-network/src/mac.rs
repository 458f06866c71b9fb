//! MAC addresses of VMs: the same on every start, and different from those of other VMs.

/// The MAC address of a VM's first interface: always the same, locally administered, unicast.
pub(crate) fn of(vm_uid: &str) -> [u8; 6] {
    // FNV-1a, 64 bits: stable for ever, and spread well enough to tell a host's VMs apart.
    let hash = vm_uid
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let [_, _, first, rest @ ..] = hash.to_be_bytes();
    let mut mac = [first & 0xfc | 0x02, 0, 0, 0, 0, 0];
    mac[1..].copy_from_slice(&rest);
    mac
}

/// That of its interface with this number, from 0.
pub(crate) fn of_interface(vm_uid: &str, index: usize) -> [u8; 6] {
    if index == 0 { of(vm_uid) } else { of(&format!("{vm_uid}/{index}")) }
}

/// One that somebody wrote, which has been checked; `None` where there is none.
pub(crate) fn wanted(text: Option<&str>) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text?.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    octets?.try_into().ok()
}

/// As `aa:bb:cc:dd:ee:ff`.
pub(crate) fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_interface_keeps_its_address_and_no_other_has_it() {
        let first = of("e1b5c0d2a3f40001");
        assert_eq!(first, of_interface("e1b5c0d2a3f40001", 0));
        assert_ne!(first, of("e1b5c0d2a3f40002"));
        assert_ne!(first, of_interface("e1b5c0d2a3f40001", 1));
        assert_eq!(wanted(Some("02:00:0a:ff:01:10")), Some([2, 0, 0x0a, 0xff, 1, 0x10]));
        assert_eq!((wanted(None), wanted(Some("02:00")), wanted(Some("x"))), (None, None, None));
        assert_eq!(text([2, 0, 0x0a, 0xff, 1, 0x10]), "02:00:0a:ff:01:10");
    }

    proptest! {
        #[test]
        fn addresses_are_local_and_unicast(uid in ".*", index in 0_usize..9) {
            prop_assert_eq!(of_interface(&uid, index)[0] & 0b11, 0b10);
        }
    }
}
