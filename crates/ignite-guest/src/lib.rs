//! The static guest program `ignite-init`, embedded: what an initramfs has as `/init`.
//!
//! It is built for the target of the outer build by `build.rs`, so that a plain `cargo build` or `cargo install` gives
//! programs that work.

/// The ELF file.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ignite-init"));

/// The ELF file; a function where a constant would be copied into every user.
pub fn init_program() -> &'static [u8] {
    INIT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DESIGN §5: guest agent binary.
    const BUDGET_BYTES: usize = 1536 * 1024;

    #[test]
    fn the_program_is_an_elf_file_within_its_budget() {
        assert_eq!(&INIT[..4], b"\x7fELF");
        assert!(INIT.len() <= BUDGET_BYTES, "{} bytes exceed {BUDGET_BYTES}", INIT.len());
    }

    #[test]
    fn the_program_is_static() {
        // Program header type PT_INTERP (3) names a dynamic loader.
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([INIT[at], INIT[at + 1]]));
        let offset = u64::from_le_bytes(INIT[32..40].try_into().unwrap()) as usize;
        let (size, count) = (u16_at(54), u16_at(56));
        let kinds = (0..count).map(|i| &INIT[offset + i * size..][..4]);
        assert!(kinds.into_iter().all(|kind| kind != 3u32.to_le_bytes()));
    }
}
