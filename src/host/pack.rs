//! Programs of ours as they travel to a host: cut to their code, and compressed where they are long. The only file that
//! knows the `flate2` crate.

use std::{
    collections::HashMap,
    io::Write,
    sync::{LazyLock, Mutex, PoisonError},
};

use flate2::{Compression, write::GzEncoder};

/// From so many bytes on, a slow line takes longer for the text than a host for the processes that unpack it.
const LONG: usize = 1500;

/// What was packed before, by its text: the same few go to every host.
static PACKED: LazyLock<Mutex<HashMap<&'static str, &'static [u8]>>> = LazyLock::new(Mutex::default);

/// The text without comments and indentation. Nothing of ours has a here-document, where that would matter.
pub(super) fn cut(text: &str) -> String {
    let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    code.flat_map(|line| [line, "\n"]).collect()
}

/// What [`cut`] leaves of a text, as gzip writes it.
pub(super) fn packed(text: &'static str) -> &'static [u8] {
    let mut packed = PACKED.lock().unwrap_or_else(PoisonError::into_inner);
    // Kept for as long as the process lives, as the texts are: there are some forty of them.
    packed.entry(text).or_insert_with(|| Box::leak(gzip(cut(text).as_bytes()).into_boxed_slice()))
}

/// True for a text that is worth packing.
pub(super) fn is_long(code: &str) -> bool {
    code.len() > LONG
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_its_code_and_packed_once() {
        let text = "# what it does\nif true; then\n  # why\n  echo '# kept'\nfi\n";
        assert_eq!(cut(text), "if true; then\necho '# kept'\nfi\n");
        let (first, again) = (packed(text), packed(text));
        assert!(std::ptr::eq(first, again) && first.starts_with(&[0x1f, 0x8b]));
        let mut code = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(first), &mut code).unwrap();
        assert_eq!(code, cut(text));
    }
}
