//! Whatever the bytes: loading ends, with a cluster or with problems at real places, and never panics.

use proptest::prelude::*;

use super::*;

/// Loading ends, without a panic, with a cluster or with problems at real places.
fn load_anything(bytes: &[u8]) {
    if let Err(problems) = load_bytes(bytes, "inventory.yaml", None) {
        assert!(!problems.problems.is_empty());
        // Of the two parsers one takes more characters for line ends than the other.
        let text = String::from_utf8_lossy(bytes);
        let line_ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
        let lines = text.chars().filter(|c| line_ends.contains(c)).count() + 2;
        for problem in &problems.problems {
            assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem}");
        }
        assert!(!problems.to_string().is_empty());
    }
}

fn valid() -> &'static [u8] {
    include_bytes!("../../../inventories/ha.yaml")
}

/// What YAML and the inventory give a meaning to.
const PIECES: [&str; 40] = [
    "\n",
    "\n  ",
    "\n- ",
    " ",
    "\t",
    ": ",
    ":",
    ", ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!x ",
    "!!str ",
    "|",
    ">-",
    "\"",
    "'",
    "#",
    "%YAML 1.2\n",
    "---",
    "...",
    "<<",
    "~",
    "null",
    "\u{feff}",
    "\0",
    "é",
    "\u{2028}",
    "hosts",
    "roles",
    "etcd",
    "99999999999999999999",
    "-1",
    "1e400",
    "0x7f",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        load_anything(&bytes);
    }

    #[test]
    fn random_yaml(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        load_anything(pieces.concat().as_bytes());
    }

    #[test]
    fn mutations(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..20usize, prop::sample::select(&PIECES[..])), 1..8)
    ) {
        let mut bytes = valid().to_vec();
        for (at, removed, piece) in edits {
            let start = at.index(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, piece.bytes());
        }
        load_anything(&bytes);
    }

    #[test]
    fn truncations(at in any::<prop::sample::Index>()) {
        load_anything(&valid()[..at.index(valid().len())]);
    }
}

#[test]
fn long_repetitions() {
    for piece in PIECES
        .into_iter()
        .chain(["a: ", "[a, ", "{a: ", "- - ", "&a [", "a: b\n", "? a\n", "- a\n", "[]\n", "*a: "])
    {
        load_anything(piece.repeat(20_000).as_bytes());
    }
}

const CASES: u32 = 300;
